"""Manifests joined into cuts: one per supervision, with the recording it lies in, as lhotse's samplers take them.

Everything here is a generator over manifests that were written in the same order, so memory does not grow with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.cut import Cut

from icefall_ext.errors import UserError
from icefall_ext.files import open_jsonl_for_writing, read_jsonl

AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".opus")
SPEEDS = (1.0, 0.9, 1.1)  # Kaldi's three-way speed perturbation


def read_cuts(recordings_path: Path, supervisions_path: Path) -> Iterator[MonoCut]:
    """One cut per supervision. Some recordings may have none, others several; both manifests are in one order."""
    recordings = (Recording.from_dict(item) for item in read_jsonl(recordings_path))
    recording = None
    for item in read_jsonl(supervisions_path):
        supervision = SupervisionSegment.from_dict(item)
        while recording is None or recording.id != supervision.recording_id:
            recording = next(recordings, None)
            if recording is None:
                raise UserError(
                    f"{supervisions_path}: {supervision.id} lies in recording {supervision.recording_id}, which is not"
                    f" in {recordings_path} in that order; run stage 1 again"
                )
        yield MonoCut(
            id=supervision.id,
            start=supervision.start,
            duration=supervision.duration,
            channel=supervision.channel,
            supervisions=[supervision.with_offset(-supervision.start)],
            recording=recording,
        )


def at_speeds(recordings_path: Path, supervisions_path: Path, speeds: Iterable[float]) -> Iterator[MonoCut]:
    """The cuts once per speed; an id gains `_sp0.9`, and the audio is resampled when it is read."""
    for speed in speeds:
        for cut in read_cuts(recordings_path, supervisions_path):
            yield cut if speed == 1.0 else cut.perturb_speed(speed)


def noise_cuts(folder: Path) -> CutSet:
    """Every audio file below `folder` as a cut at 16 kHz, its first channel, in the order of names.

    Speech is mixed with noise of any length, repeated where it is too short, so a file without samples has to be found
    here: repeating that would never end. Noise of several channels would make speech of several channels.
    """
    paths = sorted(p for p in folder.absolute().rglob("*") if p.suffix.lower() in AUDIO and not p.name.startswith("."))
    if not paths:
        raise UserError(f"--noise-dir {folder}: no {', '.join(AUDIO[:-1])} or {AUDIO[-1]} file in it")
    return CutSet.from_cuts([_noise_cut(path, str(path.relative_to(folder.absolute()))) for path in paths])


def _noise_cut(path: Path, name: str) -> MonoCut:
    try:
        recording = Recording.from_file(path, recording_id=name)
    except Exception as error:  # lhotse asks several libraries, each with errors of its own
        raise UserError(f"--noise-dir: {path} cannot be read as audio; mend or remove it") from error
    recording = recording.resample(16000)
    if not recording.num_samples:
        raise UserError(f"--noise-dir: {path} holds no audio; remove it")
    return MonoCut(name, start=0, duration=recording.duration, channel=0, recording=recording)


def with_noise(cuts: Iterable[MonoCut], noise: CutSet, seed: int) -> Iterator[Cut]:
    """Half of the cuts with noise 10 to 20 dB below the speech; mixed when the audio is read."""
    yield from CutSet(cuts).mix(noise, snr=(10, 20), mix_prob=0.5, preserve_id="left", seed=seed)


def write_cuts(cuts: Iterable[Cut], path: Path) -> int:
    with open_jsonl_for_writing(path) as writer:
        for cut in cuts:
            writer.write(cut.to_dict())
    return writer.count
