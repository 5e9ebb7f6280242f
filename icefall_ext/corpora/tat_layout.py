"""Where a copy of TAT keeps its labels and its audio, found before any work starts.

    <root>/{condenser,lavalier,...}/wav/<IN>_<SPK>/<card>-<sentence>-<NN>.wav     (`wav/` and `-NN` may be missing)
    <root>/wav/<IN>_<SPK>/...                                                     (a copy with a single microphone)
    <root>/json/<IN>_<SPK>/<card>-<sentence>.json                                 (or <root>-key-master/json/...)

A root is one part of the corpus (`TAT-MOE-train`, `Train`, `TAT-Vol1-eval-master`, ...) in the corpus folder or one
level further down (`TAT-MOE-Lavalier/Train`); several roots may make up one part. A folder with `json/` and no sign of
a part is a whole corpus, to be split by speaker.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from icefall_ext.corpora.base import AUTO, PARTS, existing_folder, part_of_word, shown
from icefall_ext.errors import UserError

MICROPHONES = ("condenser", "lavalier", "ios", "android", "XYH-6-X", "XYH-6-Y")
AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus")
EXPECTED = "<corpus-dir>/json/<IN>_<SPK>/*.json next to condenser/wav/<IN>_<SPK>/*.wav, or such a folder for each part \
(TAT-MOE-train, TAT-MOE-eval, TAT-MOE-test)"
_UNNAMED = ""  # the microphone of a root that has `wav/` and nothing in its name


@dataclass(frozen=True)
class Root:
    part: str | None  # None: not split
    name: str  # relative to the corpus folder, "" for the folder itself
    labels: str
    audio: dict[str, str]  # microphone -> folder with the speakers' folders


@dataclass(frozen=True)
class Layout:
    folder: str
    roots: tuple[Root, ...]
    microphones: tuple[str, ...]  # the chosen ones

    @property
    def parts(self) -> tuple[str, ...]:
        found = {root.part for root in self.roots}
        return PARTS if None in found else tuple(part for part in PARTS if part in found)


def find_layout(folder: str | os.PathLike[str], microphones: Sequence[str] = (AUTO,)) -> Layout:
    """Raises UserError, one line with what was expected and what was found, if this is no TAT-like corpus."""
    folder = os.path.normpath(folder)
    names = existing_folder(folder, EXPECTED)
    roots = [_open_root(folder, name) for name in _part_folders(folder, names)]
    if not roots:
        if "json" not in names and not _microphones_of(folder):
            raise UserError(f"{folder}/json: no such folder. Expected {EXPECTED}; found: {shown(folder, names)}")
        roots = [_open_root(folder, "")]
    if None in {root.part for root in roots} and len(roots) > 1:
        raise UserError(f"{folder}: some folders name a part and some do not: {', '.join(r.name for r in roots)}")
    roots.sort(key=lambda root: (PARTS.index(root.part or PARTS[0]), root.name))
    chosen = _choose(microphones, roots)
    return Layout(folder, tuple(_keep_roots_with(chosen, roots)), chosen)


def _part_folders(folder: str, names: Sequence[str]) -> list[str]:
    """Folders that name a part, here or one level further down."""
    here = _named_parts(folder, names)
    if "json" in names:
        if here:
            raise UserError(f"{folder}: both json/ and {here[0]}/ in it; point --corpus-dir at one corpus")
        return []
    if here:
        return here
    around = [name for name in names if _is_folder(folder, name)]
    return [
        os.path.join(name, child)
        for name in around
        for child in _named_parts(os.path.join(folder, name), sorted(_names(os.path.join(folder, name))))
    ]


def _named_parts(folder: str, names: Sequence[str]) -> list[str]:
    """Without the label trees that stand apart: they belong to a root."""
    return [name for name in names if _part_of(name) and not _is_key_tree(name) and _is_folder(folder, name)]


def _words(name: str) -> list[str]:
    return re.split(r"[-_. ]+", name.lower())


def _part_of(name: str) -> str | None:
    return next((part for part in map(part_of_word, _words(name)) if part), None)


def _is_key_tree(name: str) -> bool:
    return "key" in _words(name)


def _is_folder(folder: str, name: str) -> bool:
    return not name.startswith(".") and os.path.isdir(os.path.join(folder, name))


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _open_root(folder: str, name: str) -> Root:
    path = os.path.join(folder, name) if name else folder
    audio = _microphones_of(path)
    if not audio:
        raise UserError(
            f"{path}: no audio. Expected condenser/wav/<IN>_<SPK>/*.wav or wav/<IN>_<SPK>/*.wav in it; "
            f"found: {shown(path, sorted(_names(path)))}"
        )
    return Root(_part_of(os.path.basename(os.path.abspath(path))), name, _labels_of(path), audio)


def _labels_of(path: str) -> str:
    """`json/` in the root, or in the tree that stands beside it; with at least one label in it."""
    parent, base = os.path.split(os.path.abspath(path))
    bare = [word for word in _words(base) if word != "master"]
    trees = [
        os.path.join(parent, name)
        for name in sorted(_names(parent))
        if _is_key_tree(name) and [word for word in _words(name) if word not in ("key", "master")] == bare
    ]
    for candidate in (os.path.join(root, "json") for root in (path, *trees)):
        if os.path.isdir(candidate):
            if _holds(candidate, (".json",)):
                return candidate
            raise UserError(
                f"{candidate}: no labels. Expected <IN>_<SPK>/<card>-<sentence>.json in it; "
                f"found: {shown(candidate, sorted(_names(candidate))) or 'nothing'}"
            )
    raise UserError(
        f"{path}/json: no such folder, and no {base}-key-master/json beside it. Expected <IN>_<SPK>/*.json there; "
        f"found: {shown(path, sorted(_names(path)))}"
    )


def _microphones_of(path: str) -> dict[str, str]:
    """Every microphone under a root, by its usual spelling."""
    usual = {name.lower(): name for name in MICROPHONES}
    found = {}
    for name in sorted(_names(path)):
        inside = os.path.join(path, name)
        if name == "json" or not _is_folder(path, name):
            continue
        if name == "wav":
            found[_microphone_in(path)] = inside
        elif os.path.isdir(os.path.join(inside, "wav")):
            found[usual.get(name.lower(), name)] = os.path.join(inside, "wav")
        elif name.lower() in usual or _holds(inside, AUDIO_SUFFIXES):
            found[usual.get(name.lower(), name)] = inside
    return found


def _microphone_in(path: str) -> str:
    """`TAT-Vol1-train-lavalier/wav`, `TAT-MOE-Lavalier/Train/wav`: the name of the root or of the folder around it."""
    parent, base = os.path.split(os.path.abspath(path))
    for name in (base, os.path.basename(parent)):
        for microphone in MICROPHONES:
            if microphone.lower() in name.lower():
                return microphone
    return _UNNAMED


def _holds(folder: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a speaker's folder in `folder` has a file of this kind; stops at the first."""
    for speaker in sorted(_names(folder)):
        if any(name.lower().endswith(suffixes) for name in _names(os.path.join(folder, speaker))):
            return True
    return False


def _choose(wanted: Sequence[str], roots: Sequence[Root]) -> tuple[str, ...]:
    found = sorted({name for root in roots for name in root.audio if name})
    unnamed = any(_UNNAMED in root.audio for root in roots)
    if list(wanted) == [AUTO]:
        if unnamed and not found:
            return (_UNNAMED,)
        if len(found) == 1 and not unnamed:
            return (found[0],)
        if "condenser" in found:
            return ("condenser",)
        raise UserError(f"--mic {AUTO}: no condenser here, so name the microphone; found: {', '.join(found)}")
    if unnamed and not found and len(wanted) == 1:
        return (wanted[0],)  # the person knows what the folder's name does not say
    by_lower = {name.lower(): name for name in found}
    for name in wanted:
        if name.lower() not in by_lower:
            raise UserError(
                f"--mic {name}: no such microphone; found: {', '.join(found) or 'one without a name, in wav/'}"
            )
    return tuple(dict.fromkeys(by_lower[name.lower()] for name in wanted))


def _keep_roots_with(chosen: tuple[str, ...], roots: Sequence[Root]) -> list[Root]:
    """The roots that hold a chosen microphone; every part must have one."""
    kept = []
    for root in roots:
        audio = root.audio
        if list(audio) == [_UNNAMED] and len(chosen) == 1:
            audio = {chosen[0]: audio[_UNNAMED]}
        if set(chosen) & set(audio):
            kept.append(Root(root.part, root.name, root.labels, audio))
    for part in {root.part for root in roots}:
        missing = set(chosen) - {name for root in kept if root.part == part for name in root.audio}
        if missing:
            names = [root.name for root in roots if root.part == part]
            found = sorted({name for root in roots if root.part == part for name in root.audio})
            raise UserError(
                f"{', '.join(names)}: no microphone {', '.join(sorted(missing))}; found: {', '.join(found)}"
            )
    return kept
