"""Results of one system as rows for people and as an object for programs."""

from __future__ import annotations

from typing import Any

from icefall_ext.score.confidence import Comparison, Interval
from icefall_ext.score.error_rates import Scored
from icefall_ext.score.tones import CONFUSABLE, NOTHING, ToneConfusion

HEADER = ("rate", "%", "95 % interval", "inserted", "deleted", "substituted", "units")
COMPARISON_HEADER = ("rate", "baseline %", "%", "difference", "95 % interval", "relative %", "better in")


def rate_row(scored: Scored, interval: Interval | None) -> tuple[str, ...]:
    total = scored.total
    return (
        scored.rate.name,
        f"{scored.percent:.2f}",
        interval_text(interval),
        *(f"{n:,}" for n in (total.insertions, total.deletions, total.substitutions, total.units)),
    )


def comparison_row(baseline: Scored, scored: Scored, comparison: Comparison) -> tuple[str, ...]:
    relative = 100 * comparison.difference / baseline.percent if baseline.percent else None
    return (
        scored.rate.name,
        f"{baseline.percent:.2f}",
        f"{scored.percent:.2f}",
        f"{comparison.difference:+.2f}",
        interval_text(comparison.interval, signed=True),
        "-" if relative is None else f"{relative:+.1f}",
        "-" if comparison.better is None else f"{100 * comparison.better:.1f} %",
    )


def ranking_row(setting: str, scored: Scored, interval: Interval | None) -> tuple[str, ...]:
    return setting, f"{scored.percent:.2f}", interval_text(interval)


def interval_text(interval: Interval | None, *, signed: bool = False) -> str:
    if interval is None:
        return "-"
    return " to ".join(f"{bound:+.2f}" if signed else f"{bound:.2f}" for bound in interval)


def confusable_sentence(confusion: ToneConfusion, interval: Interval | None) -> str:
    """The confusion of tones 5, 7 and 8 in one line."""
    parts = confusion.of_confusable
    if parts.percent("among") is None:
        return f"{confusion.kind}: no reference tone is 5, 7 or 8"
    return (
        f"{confusion.kind}, 5, 7 and 8 ({int(parts.syllables.sum()):,} syllables):"
        f" {parts.percent('among'):.2f} % recognised as another of the three ({interval_text(interval)}),"
        f" {parts.percent('other'):.2f} % as another tone, {parts.percent('lost'):.2f} % lost"
    )


def rate_object(scored: Scored, interval: Interval | None) -> dict[str, Any]:
    return {
        "name": scored.rate.name,
        "percent": scored.percent,
        "interval": interval,
        **scored.total._asdict(),
        "units": scored.total.units,
    }


def confusion_object(confusion: ToneConfusion, interval: Interval | None) -> dict[str, Any]:
    parts, shown = confusion.of_confusable, [*confusion.tones, NOTHING]
    return {
        "tones": confusion.tones,
        "counts": confusion.counts[shown][:, shown].tolist(),
        "row_percent": confusion.shares[shown][:, shown].tolist(),
        "confusable": {
            "tones": CONFUSABLE,
            "syllables": int(parts.syllables.sum()),
            "among_percent": parts.percent("among"),
            "among_interval": interval,
            "other_percent": parts.percent("other"),
            "lost_percent": parts.percent("lost"),
        },
    }
