"""What a user chooses about alignment. Imports no torch."""

BACKENDS = ("auto", "torchaudio", "torch")
