"""Speech recognition for low-resource tonal languages: the behaviour behind the recipes in egs/."""
