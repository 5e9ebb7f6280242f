"""The whole page: one HTML text without anything from outside.

The content security policy names the one script by its digest and forbids every request, so that even a text that got
past the escaping would not run.
"""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import datetime
from pathlib import Path

from icefall_ext.score.report import error_tables, sections, words
from icefall_ext.score.report.audio import Clips, Cut
from icefall_ext.score.report.experiment import Experiment
from icefall_ext.score.report.markup import Markup, embedded_json, join, tag
from icefall_ext.score.report.utterances import Listed

_ASSETS = Path(__file__).with_name("assets")
_HIDDEN = Markup(" hidden")  # a section that this experiment has nothing for
_SLOT = re.compile(r"\{\{(\w+)\}\}")


def page(experiment: Experiment, listed: list[Listed], cuts: dict[str, Cut], clips: Clips, written: datetime) -> str:
    script = _asset("report.js")
    parts = {
        "policy": _policy(script),
        "style": _asset("report.css"),
        "script": script,
        "title": join([f"{experiment.folder.absolute().name}: report"]),
        "heading": sections.heading(experiment, written),
        "headline": sections.headline(experiment.results) or words.headline(experiment.words),
        "if_words": None if experiment.words else _HIDDEN,
        "if_sentences": _HIDDEN if experiment.words and not experiment.results else None,
        "words": words.section(experiment.words),
        "gaps": sections.gaps(experiment),
        "results": sections.results(experiment),
        "training": sections.training(experiment.runs),
        "tones": error_tables.tones(experiment),
        "errors": error_tables.error_lists(experiment, listed),
        "systems": [tag("option", one.result.title, value=place) for place, one in enumerate(listed)],
        "clips": tag("p", _about(clips), class_="note") if _about(clips) else None,
        "runs": sections.runs(experiment),
        "data": _data(listed, cuts, clips),
    }
    # One pass over the template alone: text with braces in it is never taken for a slot.
    html = _SLOT.sub(lambda slot: join([_ready(parts[slot[1]])]), _asset("page.html"))
    return html.encode("utf-8", "replace").decode()  # half a surrogate pair in a name must not end the writing


def _ready(part: object) -> object:
    return Markup(part) if isinstance(part, str) else part


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:;"
        " media-src data: file: 'self'; base-uri 'none'; form-action 'none'"
    )


def _about(clips: Clips) -> str:
    parts = [
        f"{clips.embedded:,} recordings are in this page, those of the highest error rates first"
        if clips.embedded
        else "",
        f"{clips.too_many:,} did not fit" if clips.too_many else "",
        f"{clips.linked:,} are links to files, which have to stay where they are" if clips.linked else "",
        f"{clips.without:,} are missing ({clips.why})" if clips.without else "",
    ]
    said = "; ".join(part for part in parts if part)
    return f"{said}." if said else ""


def _data(listed: list[Listed], cuts: dict[str, Cut], clips: Clips) -> list[Markup]:
    """Each system by itself, so that a page with many of them reads only what is looked at."""
    ids = {row[0] for one in listed for row in one.rows}
    speakers = {id: [cuts[id].speaker or "", cuts[id].duration] for id in sorted(ids) if id in cuts}
    return [
        embedded_json("cuts", speakers),
        embedded_json("audio", clips.urls),
        *(
            embedded_json(
                f"system-{place}",
                {"rate": one.result.main["name"], "script": one.result.script, "rows": one.rows},
            )
            for place, one in enumerate(listed)
        ),
    ]
