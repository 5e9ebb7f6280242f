"""How fast the mini corpus is generated, and how well its tones can be told apart.

Speed: both microphones, label and files written, on one core; times real time counts the speech once. Tones: a
linear classifier on five pitch points, measured from the samples, and the duration of the rime, leaving one speaker
out at a time.

    OMP_NUM_THREADS=1 python -m benchmarks.bench_mini_corpus
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from icefall_ext.cli import option, run
from icefall_ext.console import says, table
from icefall_ext.corpora.mini.articulation import articulate
from icefall_ext.corpora.mini.dice import Dice
from icefall_ext.corpora.mini.hokkien import say_alone
from icefall_ext.corpora.mini.lexicon import NICKNAME_TONES, NICKNAMES, nickname
from icefall_ext.corpora.mini.microphones import MICROPHONES, make_session
from icefall_ext.corpora.mini.pitch import HOP_S, measure_pitch
from icefall_ext.corpora.mini.speakers import Speaker, make_speaker
from icefall_ext.corpora.mini.synth import RATE
from icefall_ext.corpora.mini.tat_moe import make_speaker_files, plan_corpus
from icefall_ext.corpora.mini.utterance import Performance, melody_of, plan_utterance, recordings

_SEED = 7


@dataclass
class Config:
    hours: float = option(0.05, "hours of training speech for the timing, generated once a run")
    runs: int = option(5, "timed runs")
    speakers: int = option(40, "speakers of the tone classifier")


def main(cfg: Config) -> None:
    report_speed(cfg.hours, cfg.runs)
    speakers = [make_speaker(_SEED, "train", number) for number in range(cfg.speakers)]
    report_tones("isolated syllables", isolated_syllables, speakers)
    report_tones("within a phrase, spoken tones", syllables_in_phrases, speakers)


def report_speed(hours: float, runs: int) -> None:
    elapsed, spent = [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            tasks = plan_corpus(Path(folder), hours, _SEED).tasks
            wall, cpu = time.perf_counter(), time.process_time()
            samples = sum(row["samples"] for task in tasks for row in make_speaker_files(task)["truth"])
            elapsed.append(samples / RATE / (time.perf_counter() - wall))
            spent.append(samples / RATE / (time.process_time() - cpu))
    says(f"{samples / RATE:,.0f} s of speech, {len(MICROPHONES)} microphones, {runs} runs on one core:")
    says(f"{_spread(elapsed)} times real time by the clock, {_spread(spent)} by processor time")


def _spread(values: list[float]) -> str:
    """Median (lowest-highest)."""
    return f"{median(values):.0f} ({min(values):.0f}-{max(values):.0f})"


Sample = tuple[int, np.ndarray]  # tone, features


def isolated_syllables(speaker: Speaker) -> list[Sample]:
    samples = []
    for base, _ in NICKNAMES:
        for tone in NICKNAME_TONES:
            syllable = nickname(base, tone).word.syllables[1]
            name = f"{_SEED}/{speaker.folder}/{syllable.number()}"
            spoken = [say_alone(syllable, speaker.rate, Dice(name))]
            score, aligned = articulate(spoken, 0.15, 0.15)
            samples += _features(Performance(name, spoken, aligned, score), speaker, [tone])
    return samples


def syllables_in_phrases(speaker: Speaker, sentences: int = 6) -> list[Sample]:
    samples = []
    for number in range(sentences):
        utterance = plan_utterance(_SEED, speaker, number)
        samples += _features(utterance.performance, speaker, utterance.said.surface)
    return [(tone, features) for tone, features in samples if tone in NICKNAME_TONES]


def _features(performance: Performance, speaker: Speaker, tones: list[int]) -> list[Sample]:
    """Five points of log F0 from the samples, and the logarithm of the rime's duration."""
    (samples,) = recordings(performance, speaker, make_session(_SEED, speaker.folder), MICROPHONES[:1])
    middle = float(np.median(melody_of(performance, speaker)))
    measured = measure_pitch(samples, middle / 2.2, middle * 2.2)
    found = []
    for tone, aligned in zip(tones, performance.aligned):
        onset, offset = aligned.rime
        moments = onset + np.array([0.1, 0.3, 0.5, 0.7, 0.9]) * (offset - onset)
        frames = np.arange(int(onset / HOP_S), min(int(offset / HOP_S) + 1, len(measured)))
        voiced = frames[~np.isnan(measured[frames])]
        if len(voiced) > 2:
            points = np.interp(moments / HOP_S, voiced, 12 * np.log2(measured[voiced]))
            found.append((tone, np.array([*points, np.log(offset - onset)])))
    return found


def report_tones(what: str, samples_of: Callable[[Speaker], list[Sample]], speakers: list[Speaker]) -> None:
    by_speaker = [samples_of(speaker) for speaker in speakers]
    centred = []
    for samples in by_speaker:  # a listener knows the voice: pitch and pace relative to the speaker's own
        middle = np.mean([features for _, features in samples], axis=0)
        middle[:5] = middle[:5].mean()
        centred.append([(tone, features - middle) for tone, features in samples])
    confusions: Counter[tuple[int, int]] = Counter()
    for left_out in range(len(speakers)):
        known = [sample for number, samples in enumerate(centred) if number != left_out for sample in samples]
        classify = _linear_classifier(known)
        confusions.update((tone, classify(features)) for tone, features in centred[left_out])
    right = sum(count for (said, heard), count in confusions.items() if said == heard)
    total = confusions.total()
    says(f"{what}: {right / total:.1%} of {total:,} right; {len(speakers)} speakers, one left out at a time")
    rows = [[said, *(confusions[said, heard] or "." for heard in NICKNAME_TONES)] for said in NICKNAME_TONES]
    table(["tone", *(f"as {tone}" for tone in NICKNAME_TONES)], rows)


def _linear_classifier(samples: list[Sample]) -> Callable[[np.ndarray], int]:
    """Linear discriminant analysis: one mean a tone, one covariance for all, every tone as likely."""
    tones = np.array([tone for tone, _ in samples])
    features = np.array([feature for _, feature in samples])
    means = np.array([features[tones == tone].mean(axis=0) for tone in NICKNAME_TONES])
    within = features - means[[NICKNAME_TONES.index(tone) for tone in tones]]
    inverse = np.linalg.inv(np.cov(within.T))
    weights = means @ inverse
    offsets = -0.5 * np.sum(weights * means, axis=1)
    return lambda feature: NICKNAME_TONES[int(np.argmax(weights @ feature + offsets))]


if __name__ == "__main__":
    run(main, Config)
