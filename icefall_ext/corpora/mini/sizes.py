"""How many speakers and how much speech each part gets for a number of hours of training speech.

Speakers grow with the square root of the hours, 200 at one hour, as long as each can say 15 seconds. Eval and test
hold one fifteenth of the speech and one fourteenth of the speakers each. Every part has as many women as men.
"""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST, LONGEST = 0.01, 5000.0  # hours
_SPEAKERS_AT_ONE_HOUR = 200
_SECONDS_EACH = 15
_MEAN_SENTENCE = 4.5  # s


@dataclass(frozen=True)
class Size:
    speakers: int
    seconds: float  # in all

    @property
    def seconds_each(self) -> float:
        return self.seconds / self.speakers


def sizes(hours: float) -> dict[str, Size]:
    speakers = _even(min(_SPEAKERS_AT_ONE_HOUR * hours**0.5, hours * 3600 / _SECONDS_EACH))
    held_out = _even(speakers / 14)
    seconds = max(hours * 240, 2 * _MEAN_SENTENCE * held_out)  # at least two sentences each
    return {
        "train": Size(speakers, hours * 3600),
        "eval": Size(held_out, seconds),
        "test": Size(held_out, seconds),
    }


def _even(count: float) -> int:
    return max(2, round(count / 2) * 2)
