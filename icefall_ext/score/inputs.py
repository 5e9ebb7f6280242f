"""What is scored: recogs files, or hypotheses beside a manifest; and who speaks, from a manifest.

A manifest holds supervisions or cuts, one JSON object a line. Hypotheses are `id text` lines, or JSON objects with `id`
and `text`. Every id has to be on both sides: an utterance that was not decoded would make a result look better.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from icefall_ext.errors import UserError
from icefall_ext.files import read_jsonl, read_lines
from icefall_ext.score.error_rates import Utterance
from icefall_ext.score.icefall_files import read_recogs


class Entry(NamedTuple):
    """Of a manifest; None where it says nothing."""

    hanlo: str | None
    tailo: str | None
    speaker: str | None


def read_manifest(path: str | Path) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for number, item in enumerate(read_jsonl(path), start=1):
        try:
            id, entry = item["id"], _entry(item.get("supervisions", [item]))
        except (AttributeError, KeyError, TypeError):
            raise UserError(f"{path}: line {number}: neither a supervision nor a cut of one recording") from None
        if id in entries:
            raise UserError(f"{path}: line {number}: {id} occurs a second time")
        entries[id] = entry
    if not entries:
        raise UserError(f"{path}: no utterance in it")
    return entries


def _entry(supervisions: list[dict[str, Any]]) -> Entry:
    texts = [supervision.get("text") for supervision in supervisions]
    romanised = [(supervision.get("custom") or {}).get("tailo") for supervision in supervisions]
    speakers = {supervision.get("speaker") for supervision in supervisions}
    return Entry(_joined(texts), _joined(romanised), speakers.pop() if len(speakers) == 1 else None)


def _joined(texts: list[str | None]) -> str | None:
    known = [text for text in texts if text is not None]
    return " ".join(known) if known else None


def utterances_of_recogs(path: str | Path) -> list[Utterance]:
    utterances = [Utterance(id, " ".join(ref), " ".join(hyp)) for id, ref, hyp in read_recogs(path)]
    if not utterances:
        raise UserError(f"{path}: no utterance in it; was anything decoded?")
    return utterances


def read_hypotheses(path: str | Path) -> dict[str, str]:
    """Text by id. A line that has an id alone is an empty hypothesis."""
    texts: dict[str, str] = {}
    pairs = _json_pairs(path) if ".jsonl" in Path(path).suffixes else _plain_pairs(path)
    for number, (id, text) in enumerate(pairs, start=1):
        if not isinstance(id, str) or not isinstance(text, str):
            raise UserError(f'{path}: line {number}: not an object with the strings "id" and "text"')
        if id in texts:
            raise UserError(f"{path}: line {number}: {id} occurs a second time")
        texts[id] = text
    return texts


def _json_pairs(path: str | Path) -> Iterator[tuple[Any, Any]]:
    for item in read_jsonl(path):
        yield (item.get("id"), item.get("text")) if isinstance(item, dict) else (None, None)


def _plain_pairs(path: str | Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(read_lines(path), start=1):
        id, *text = line.split(maxsplit=1) or [""]
        if not id:
            raise UserError(f"{path}: line {number}: empty; an empty hypothesis is a line with its id alone")
        yield id, "".join(text)


def utterances_of_pair(
    manifest_path: str | Path, manifest: Mapping[str, Entry], hypotheses_path: str | Path, script: str
) -> tuple[list[Utterance], int]:
    """The utterances that have a reference in `script`, and how many have none and are left out."""
    hypotheses = read_hypotheses(hypotheses_path)
    references = {id: entry.hanlo if script == "hanlo" else entry.tailo for id, entry in manifest.items()}
    stop_if_missing(hypotheses, references, hypotheses_path, manifest_path)
    wanted = {id: ref for id, ref in references.items() if ref is not None}
    if not wanted:
        field = "text" if script == "hanlo" else 'custom["tailo"]'
        raise UserError(f"{manifest_path}: no utterance has a reference in {script} ({field})")
    stop_if_missing(wanted, hypotheses, manifest_path, hypotheses_path)
    return [Utterance(id, ref, hypotheses[id]) for id, ref in wanted.items()], len(references) - len(wanted)


def stop_if_missing(ids: Collection[str], others: Container[str], where: object, not_where: object) -> None:
    missing = [id for id in ids if id not in others]
    if missing:
        raise UserError(
            f"{not_where}: {len(missing):,} of the {len(ids):,} utterances in {where} are not in it, the first is"
            f" {missing[0]}; both have to be of the same test set"
        )
