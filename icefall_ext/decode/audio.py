"""Audio files of any kind as 16 kHz, one channel, a second at a time: a file of any length needs little memory.

libsndfile reads wav, flac, mp3, ogg, opus, aiff and their like; for the rest (m4a, webm, video) ffmpeg is asked, where
there is one. Resampling is a Hann-windowed sinc with six zero crossings and roll-off 0.99, which is torchaudio's
default and so what the training data went through.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from icefall_ext.encoders.spec import SAMPLE_RATE
from icefall_ext.errors import UserError

SUFFIXES = {
    *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".caf", ".w64", ".sph"),
    *(".m4a", ".aac", ".mp4", ".mov", ".mkv", ".webm", ".wma", ".amr", ".3gp"),
}
RATES = 1_000, 1_000_000
_CROSSINGS, _ROLLOFF = 6, 0.99


def read_audio(path: Path) -> Iterator[np.ndarray]:
    """Blocks (n,) float32 of a second, the last one shorter; raises UserError where the file cannot be read."""
    import soundfile

    try:
        path.open("rb").close()  # whose errors say more than libsndfile's
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    try:
        opened = soundfile.SoundFile(str(path))
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        yield from _checked(_through_ffmpeg(path, _one_line(error)), path)
        return
    with opened as file:
        if not RATES[0] <= file.samplerate <= RATES[1]:
            raise UserError(f"{path}: a sampling rate of {file.samplerate} Hz; its header is damaged")
        yield from _checked(resampled(_blocks(file, path), file.samplerate), path)


def _blocks(file, path: Path) -> Iterator[np.ndarray]:
    """One channel: the mean of all."""
    import soundfile

    while True:
        try:
            block = file.read(file.samplerate, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, RuntimeError) as error:
            place = f"{file.tell() / file.samplerate:.0f} s"
            raise UserError(f"{path}: damaged after {place} ({_one_line(error)})") from None
        if not len(block):
            return
        yield block.mean(axis=1, dtype=np.float32)


def _checked(blocks: Iterator[np.ndarray], path: Path) -> Iterator[np.ndarray]:
    number = -1
    for number, block in enumerate(blocks):
        if not np.isfinite(block).all():
            raise UserError(f"{path}: NaN or infinity in its audio at {number} s; write it again")
        yield block
    if number < 0:
        raise UserError(f"{path}: holds no audio")


def _through_ffmpeg(path: Path, why: str) -> Iterator[np.ndarray]:
    program = shutil.which("ffmpeg")
    if program is None:
        raise UserError(f"{path}: libsndfile does not read it ({why}), and there is no ffmpeg to convert it")
    command = [program, "-v", "error", "-nostdin", "-protocol_whitelist", "file,pipe", "-i", f"file:{path}", "-vn",
               "-f", "f32le", "-ac", "1", "-ar", str(SAMPLE_RATE), "-"]
    with tempfile.TemporaryFile() as complaints:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, stdin=subprocess.DEVNULL) as process:
            try:
                while block := process.stdout.read(4 * SAMPLE_RATE):
                    yield np.frombuffer(block[: len(block) // 4 * 4], dtype="<f4").astype(np.float32)
            except BaseException:  # the reader has lost interest, or was interrupted
                process.kill()
                raise
        if process.returncode:
            complaints.seek(0)
            said = complaints.read().decode("utf-8", "replace").strip().splitlines() or ["ffmpeg failed"]
            raise UserError(f"{path}: cannot be read ({said[-1][:150]})")


def resampled(blocks: Iterator[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """Blocks at `rate` as blocks of a second at 16 kHz; ceil(16000 n / rate) samples from n.

    Output k lies at input k rate / 16000, so every second has the same weights, at any rate.
    """
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    width, index, weights = _kernel(rate)
    buffer, taken, given = np.zeros(width, dtype=np.float32), 0, 0
    for block in blocks:
        buffer, taken = np.concatenate((buffer, block)), taken + len(block)
        while len(buffer) >= rate + 2 * width:
            yield np.einsum("ij,ij->i", buffer[index], weights)
            buffer, given = buffer[rate:], given + SAMPLE_RATE
    rest = math.ceil(taken * SAMPLE_RATE / rate) - given
    buffer = np.concatenate((buffer, np.zeros(2 * (rate + 2 * width), dtype=np.float32)))
    for start in range(0, rest, SAMPLE_RATE):
        yield np.einsum("ij,ij->i", buffer[index], weights)[: rest - start]
        buffer = buffer[rate:]


def _kernel(rate: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Samples needed on either side; and for a second of output (16000, 2 width + 1) places and weights."""
    scale = _ROLLOFF * min(rate, SAMPLE_RATE) / rate
    width = math.ceil(_CROSSINGS / scale)
    whole, part = np.divmod(np.arange(SAMPLE_RATE) * rate, SAMPLE_RATE)
    offsets = np.arange(-width, width + 1)
    time = np.clip((offsets - part[:, None] / SAMPLE_RATE) * scale, -_CROSSINGS, _CROSSINGS)
    weights = np.sinc(time) * np.cos(time * np.pi / (2 * _CROSSINGS)) ** 2 * scale
    return width, (whole[:, None] + offsets + width).astype(np.int32), weights.astype(np.float32)


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].removeprefix("Error opening ")[:150]
