"""Tone confusion matrices as a picture: one panel each, a cell with its share of the reference tone above its count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from icefall_ext.files import atomic_path
from icefall_ext.score.tones import CONFUSABLE, NOTHING, ToneConfusion
from icefall_ext.text.tailo_sandhi import CONTOURS, NEUTRAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK, _PALE = "#1b2a33", "#ffffff"


def plot_confusion(path: str | Path, confusions: Sequence[ToneConfusion], title: str = "") -> None:
    """Written in the format that the name ends in (.png, .svg, .pdf)."""
    with atomic_path(path) as temporary:
        draw_confusion(confusions, title).savefig(temporary, format=Path(path).suffix[1:])


def draw_confusion(confusions: Sequence[ToneConfusion], title: str = "") -> Figure:
    from matplotlib.figure import Figure  # here, because it loads longer than a test set is scored

    sides = [len(confusion.tones) + 1 for confusion in confusions]
    size = 0.9 + sum(0.62 * side + 1.2 for side in sides), 0.62 * max(sides) + 2.2
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    panels = figure.subplots(1, len(confusions), squeeze=False, gridspec_kw={"width_ratios": sides})[0]
    for axes, confusion in zip(panels, confusions):
        _draw(axes, confusion)
    if title:  # shrunk to fit, because icefall's names hold all options of a search
        figure.suptitle(title, fontsize=min(11, 110 * figure.get_figwidth() / len(title)))
    return figure


def _draw(axes, confusion: ToneConfusion) -> None:
    from matplotlib.patches import Rectangle

    shown = [*confusion.tones, NOTHING]
    shares, counts = confusion.shares[np.ix_(shown, shown)], confusion.counts[np.ix_(shown, shown)]
    shares[-1] = 0  # inserted tones have no reference to be a share of
    # The square root keeps confusions of a few percent visible beside a diagonal of ninety.
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=10)
    for row, column in np.argwhere(counts > 0):
        inserted = row == len(shown) - 1
        text = f"{counts[row, column]:,}" if inserted else f"{_percent(shares[row, column])}\n{counts[row, column]:,}"
        axes.text(
            column, row, text, ha="center", va="center", fontsize=7, linespacing=1.15,
            color=_PALE if shares[row, column] > 35 else _INK,
        )  # fmt: skip
    for row, tone in enumerate(shown):
        for column, other in enumerate(shown):
            if tone in CONFUSABLE and other in CONFUSABLE and tone != other:
                axes.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False, ec="#c4501b", lw=1.6))
    names = [_name(tone) for tone in shown[:-1]]
    axes.set_xticks(range(len(shown)), [*names, "lost"], fontsize=8)
    axes.set_yticks(range(len(shown)), [*names, "inserted"], fontsize=8)
    axes.set_xticks(np.arange(len(shown) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(shown) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="#d9dfe3", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("recognised tone, and its contour", fontsize=9)
    axes.set_ylabel("reference tone", fontsize=9)
    axes.set_title(_heading(confusion), fontsize=9)
    for side in axes.spines.values():
        side.set_color("#d9dfe3")


def _name(tone: int) -> str:
    return f"{'neutral' if tone == NEUTRAL else tone}\n{CONTOURS[tone]}"


def _percent(share: float) -> str:
    return f"{share:.0f} %" if share >= 9.95 else f"{share:.1f} %"


def _heading(confusion: ToneConfusion) -> str:
    confusable = confusion.of_confusable
    heading = f"{confusion.kind}, error rate {confusion.scored.percent:.1f} %"
    among, other = confusable.percent("among"), confusable.percent("other")
    if among is None or other is None:
        return heading
    return f"{heading}\n5, 7, 8 recognised as one another (framed) {among:.1f} %, as another tone {other:.1f} %"
