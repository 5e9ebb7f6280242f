"""Draw and write a syllable in every tone and a sentence, as synthetic speakers say them: to look at and listen to.

The picture shows spectrograms with the F0 that was meant (line) and the F0 measured from the samples (dots).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from icefall_ext import console
from icefall_ext.cli import option, required, run
from icefall_ext.corpora.mini.articulation import articulate
from icefall_ext.corpora.mini.dice import Dice
from icefall_ext.corpora.mini.hokkien import say_alone
from icefall_ext.corpora.mini.layout import encode_wav
from icefall_ext.corpora.mini.lexicon import NICKNAME_TONES, NICKNAMES, nickname
from icefall_ext.corpora.mini.microphones import MICROPHONES, make_session
from icefall_ext.corpora.mini.pitch import HOP_S, measure_pitch
from icefall_ext.corpora.mini.speakers import Speaker, make_speaker
from icefall_ext.corpora.mini.synth import RATE
from icefall_ext.corpora.mini.utterance import Performance, melody_of, plan_utterance, recordings
from icefall_ext.errors import UsageError

_HIGHEST = 5500  # Hz, of the spectrograms


@dataclass
class Config:
    out_dir: Path = required("tones.png and the wavs are written here")
    base: str = option("tong", "the syllable that is said in every tone", choices=tuple(base for base, _ in NICKNAMES))
    speakers: int = option(2, "how many, women and men in turn")
    sentence: int = option(0, "which sentence of the first speaker")
    seed: int = option(1, "another seed gives other speakers")


@dataclass(frozen=True)
class Item:
    name: str
    performance: Performance
    meant: np.ndarray  # Hz every millisecond
    samples: np.ndarray
    labels: list[str]  # of the syllables


def main(cfg: Config) -> None:
    if cfg.speakers < 1 or cfg.sentence < 0:
        raise UsageError("--speakers: at least 1; --sentence: at least 0")
    speakers = [make_speaker(cfg.seed, "train", number) for number in range(cfg.speakers)]
    tones = [[say_tone(cfg, speaker, tone) for tone in NICKNAME_TONES] for speaker in speakers]
    sentence = say_sentence(cfg, speakers[0])
    for item in [item for row in tones for item in row] + [sentence]:
        write_wav(cfg.out_dir, item)
    draw(cfg.out_dir / "tones.png", speakers, tones, sentence)


def say_tone(cfg: Config, speaker: Speaker, tone: int) -> Item:
    syllable = nickname(cfg.base, tone).word.syllables[1]
    name = f"{speaker.folder}_{syllable.number()}"
    dice = Dice(cfg.seed, "tones", name)
    spoken = [say_alone(syllable, speaker.rate, dice)]
    score, aligned = articulate(spoken, 0.1, 0.1)
    return _item(cfg, name, speaker, Performance(f"{cfg.seed}/{name}", spoken, aligned, score), [syllable.number()])


def say_sentence(cfg: Config, speaker: Speaker) -> Item:
    utterance = plan_utterance(cfg.seed, speaker, cfg.sentence)
    said = utterance.said
    labels = [f"{s.number()}\n{'' if t == s.tone else t or 'neutral'}" for s, t in zip(said.syllables, said.surface)]
    return _item(cfg, f"{speaker.folder}_sentence_{cfg.sentence}", speaker, utterance.performance, labels)


def _item(cfg: Config, name: str, speaker: Speaker, performance: Performance, labels: list[str]) -> Item:
    session = make_session(cfg.seed, speaker.folder)
    (samples,) = recordings(performance, speaker, session, MICROPHONES[:1])
    return Item(name, performance, melody_of(performance, speaker), samples, labels)


def write_wav(folder: Path, item: Item) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{item.name}.wav"
    path.write_bytes(encode_wav(item.samples))
    console.wrote(path, f"{len(item.samples) / RATE:.2f} s")


def draw(path: Path, speakers: list[Speaker], tones: list[list[Item]], sentence: Item) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = len(NICKNAME_TONES)
    figure = plt.figure(figsize=(2.4 * columns, 3 * len(tones) + 4), layout="constrained")
    grid = figure.add_gridspec(len(tones) + 1, columns)
    for row, (speaker, items) in enumerate(zip(speakers, tones)):
        for column, item in enumerate(items):
            axes = figure.add_subplot(grid[row, column])
            _draw_item(axes, item, speaker)
            axes.set_title(item.labels[0])
    _draw_item(figure.add_subplot(grid[-1, :]), sentence, speakers[0])
    figure.suptitle("F0 meant (line) and measured (dots); in the sentence, written tone and spoken one if another")
    figure.savefig(path, dpi=90)
    console.wrote(path)


def _draw_item(axes, item: Item, speaker: Speaker) -> None:
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(item.samples / 32768, 64), 128)[::32]
    levels = 20 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(128), 512)) + 1e-5)
    seconds = len(item.samples) / RATE
    axes.imshow(
        levels.T, origin="lower", aspect="auto", cmap="Greys", extent=(0, seconds, 0, RATE / 2),
        vmin=levels.max() - 60, vmax=levels.max(),
    )  # fmt: skip
    axes.set_ylim(0, _HIGHEST)
    axes.set_yticks([1000, 2000, 3000, 4000, 5000], ["1", "2", "3", "4", "5 kHz"])
    pitch = axes.twinx()
    for aligned, label in zip(item.performance.aligned, item.labels):
        onset, offset = aligned.rime
        inside = slice(int(onset * 1000), int(offset * 1000))
        pitch.plot(np.arange(len(item.meant))[inside] / 1000, item.meant[inside], color="tab:red", linewidth=2)
        if len(item.labels) > 1:
            pitch.text(aligned.start + 0.01, speaker.voice.pitch * 2.05, label, fontsize=9, va="top")
            pitch.axvline(aligned.start, color="tab:green", linewidth=0.5)
    measured = measure_pitch(item.samples)
    pitch.plot(np.arange(len(measured)) * HOP_S, measured, ".", color="tab:blue", markersize=3)
    pitch.set_yscale("log", base=2)
    pitch.set_ylim(speaker.voice.pitch * 0.48, speaker.voice.pitch * 2.1)
    ticks = [round(speaker.voice.pitch * 2**octave) for octave in (-0.5, 0, 0.5, 1)]
    pitch.set_yticks(ticks, [f"{tick} Hz" for tick in ticks], fontsize=7)
    pitch.minorticks_off()


if __name__ == "__main__":
    run(main, Config)
