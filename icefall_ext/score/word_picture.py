"""Embeddings of words on the plane in which they vary most: the same points by tone, word (base), speaker, gender."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from icefall_ext.files import atomic_path
from icefall_ext.score.word_embeddings import plane
from icefall_ext.tone.labels import GENDERS, Vocabulary
from icefall_ext.tone.pairs import Items

_MOST_NAMED = 10  # colours that an eye tells apart; more classes get no legend


def plot_words(path: Path, embeddings: np.ndarray, items: Items, names: Vocabulary) -> None:
    """Written in the format that the name ends in (.png, .svg, .pdf)."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure  # here, because it loads longer than words are scored

    points = plane(embeddings)
    panels = (("tone", items.tone, names.tones), ("word (base)", items.base, names.bases),
              ("speaker", items.speaker, names.speakers), ("gender", items.gender, GENDERS))
    size = min(40.0, max(7.0, 6000 / max(len(points), 1)))  # of a dot: a few can be seen, a thousand told apart
    figure = Figure(figsize=(11, 10), dpi=110, layout="constrained")
    for axes, (title, numbers, called) in zip(figure.subplots(2, 2).ravel(), panels):
        there = np.unique(numbers)
        few = len(there) <= _MOST_NAMED
        colours = colormaps["tab10" if few else "turbo"]
        for place, number in enumerate(there.tolist()):
            colour = colours(place if few else place / (len(there) - 1))
            mine = numbers == number
            name = called[number] if number >= 0 else "unknown"
            axes.scatter(*points[mine].T, s=size, color=colour, linewidths=0, label=name if few else None)
        axes.set_title(f"{title}, {len(there)}")
        axes.set_xticks([])
        axes.set_yticks([])
        if few:
            axes.legend(markerscale=(40 / size) ** 0.5, fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:])
