"""Models of isolated words in the page: their scores side by side, and the picture of their embeddings."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icefall_ext.score.report.markup import Markup, join, scroller, table, tag
from icefall_ext.score.word_scores import DISTANCES, MEASURES, MODELS, tested_on

NAME, PICTURE = "words.json", "words.png"
_SPEAKERS = {"unseen": "Speakers who are in no training", "seen": "Speakers of the training"}
_HEADLINE = ("top1", "hard", "word")
_HOW = (
    "Top-1 and Top-5: every recording of one gender asks for its word, tone included, among all of the other; means of"
    f" both directions. {DISTANCES} In CER a tone is a character. Probes: a linear classifier looks for the gender in"
    " speakers that it has not heard, and for the speaker in bases that it has not heard; in brackets what a guess is"
    " right at."
)


@dataclass(frozen=True)
class Words:
    """One model as bin/score_words measured it."""

    model: str
    feature_layer: int
    sets: dict[str, dict[str, Any]]  # by speakers: unseen, seen
    picture: Path | None

    @property
    def order(self) -> tuple:
        return (MODELS.index(self.model) if self.model in MODELS else len(MODELS), self.model)


def read_words(folder: Path, paths: Sequence[Path], gaps: list[str]) -> list[Words]:
    """Of these words.json below the folder; a model's lies in MODEL/scores."""
    found = []
    for path in paths:
        place = path.parent.parent if path.parent.name == "scores" else path.parent
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            sets = {str(name): dict(scores) for name, scores in content["sets"].items()}
            layer = int(content["feature_layer"])
        except (ValueError, KeyError, TypeError, AttributeError):
            gaps.append(f"{path.relative_to(folder)} is damaged and is left out; score the model again")
            continue
        picture = path.with_name(PICTURE)
        model = str(place.relative_to(folder)) if place != folder else folder.absolute().name
        found.append(Words(model, layer, sets, picture if picture.is_file() else None))
    return sorted(found, key=lambda words: words.order)


def headline(found: Sequence[Words]) -> Markup | None:
    """The figures of the last model that has them, on speakers that it has not heard where there are some."""
    boxes = []
    for name in _HEADLINE:
        measure = MEASURES[name]
        of_models = [(words, who, measure.of(words.sets[who])) for words in found
                     for who in [tested_on(words.sets)] if who in words.sets]
        shown = [one for one in of_models if one[2] is not None]
        if shown:
            words, who, value = shown[-1]
            boxes.append(tag("div", tag("p", measure.title, class_="what"),
                             tag("p", f"{value:.{measure.digits}f}", class_="figure"),
                             tag("p", f"{words.model}, {who} speakers", class_="where")))
    return tag("div", boxes, class_="headline") if boxes else None


def section(found: Sequence[Words]) -> Markup:
    kinds = [*_SPEAKERS, *dict.fromkeys(name for words in found for name in words.sets if name not in _SPEAKERS)]
    tables = [_table(name, [words for words in found if name in words.sets]) for name in kinds]
    note = tag("p", _HOW, class_="note")
    pictures = tag("div", [_picture(words) for words in found], class_="charts wide")
    return join([*(one for one in tables if one), note, pictures])


def _table(name: str, found: Sequence[Words]) -> Markup | None:
    if not found:
        return None
    header = ["model", "block", "recordings", "gallery", *(measure.title for measure in MEASURES.values())]
    rows = []
    for words in found:
        scores = words.sets[name]
        gallery = dict.fromkeys(f"{way['gallery']:,}" for way in scores.get("retrieval", ()))
        rows.append([words.model, words.feature_layer, f"{scores.get('recordings', 0):,}", ", ".join(gallery) or "-",
                     *(_figure(key, scores) for key in MEASURES)])
    title = _SPEAKERS.get(name, name)
    return scroller(table(title, header, rows, class_="results compact"), title)


def _figure(key: str, scores: dict[str, Any]) -> str:
    measure = MEASURES[key]
    value = measure.of(scores)
    if value is None:
        return "-"
    chance = f" ({scores['probes'][key]['chance']:.3f})" if key in scores.get("probes", {}) else ""
    return f"{value:.{measure.digits}f}{chance}"


def _picture(words: Words) -> Markup | None:
    """In the page itself, which needs no other file."""
    if words.picture is None:
        return None
    source = "data:image/png;base64," + base64.b64encode(words.picture.read_bytes()).decode()
    what = "the plane in which the embeddings vary most, coloured by tone, word (base), speaker and gender"
    image = tag("img", src=source, alt=f"{words.model}: {what}", loading="lazy")
    return tag("figure", tag("figcaption", f"{words.model}: {what}"), image)
