"""Score a model of isolated words: retrieval across genders, distances, probes, word errors, and a picture.

Seen and unseen speakers are scored apart; seen are those in --train-cuts. Without --exp-dir the encoder that
--encoder.source names is measured as it is: the baseline. Everything goes into words.json, the picture and, where the
model was trained to recognise, words-hypotheses.tsv.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icefall_ext import console
from icefall_ext.cli import group, option, required, run
from icefall_ext.data.batches import BatchLimits
from icefall_ext.encoders.spec import EncoderConfig
from icefall_ext.errors import UsageError, UserError
from icefall_ext.files import read_jsonl, write_text

if TYPE_CHECKING:
    import numpy as np
    import torch

    from icefall_ext.tone.labels import Vocabulary, Word
    from icefall_ext.tone.pairs import Items
    from icefall_ext.train.word_training import RestoredWords

@dataclass
class Batches(BatchLimits):
    max_duration: float = option(60.0, "seconds of audio in a batch, padding included")
    max_tokens: int = option(10**9, "not looked at")


@dataclass
class Config:
    test_cuts: Path = required("cuts of isolated words")
    train_cuts: Path = required("cuts that the model learnt from: their speakers are seen")
    out_dir: Path = required("folder for words.json, the picture and the hypotheses")
    exp_dir: str = option("", "folder that train_tone made; none: the baseline")
    epoch: int = option(0, "which checkpoint; 0: the last epoch")
    avg: int = option(1, "average the model over so many of the last epochs")
    feature_layer: int = option(0, "block that the embeddings are taken from; 0: the one that was trained")
    picture: str = option("unseen", "whose words the picture shows", choices=("unseen", "seen", "all"))
    device: str = option("auto", "cpu, cuda, or auto: cuda where there is one")
    threads: int = option(0, "threads of torch on a CPU; 0: one for a small model, else one for each core")
    workers: int = option(0, "processes that load audio")
    encoder: EncoderConfig = group(EncoderConfig, "speech encoder, without --exp-dir")
    batch: Batches = group(Batches, "batches")


def main(cfg: Config) -> None:
    check(cfg)
    import numpy as np

    from icefall_ext.score.word_errors import hypotheses_table, word_errors
    from icefall_ext.score.word_picture import plot_words
    from icefall_ext.tone.labels import Vocabulary, speaker_of
    from icefall_ext.train.devices import choose_device, set_threads

    device = choose_device(cfg.device)
    restored = load(cfg)
    set_threads(cfg.threads, restored.model, device)
    ids, words, embeddings, hypotheses = listen(cfg, restored, device)
    names = Vocabulary.of([cfg.test_cuts])
    _, items = names.items(cfg.test_cuts)
    trained = {speaker_of(cut) for cut in read_jsonl(cfg.train_cuts)}
    seen = np.array([names.speakers[number] in trained for number in items.speaker.tolist()])
    sets = {name: chosen for name, chosen in (("unseen", ~seen), ("seen", seen)) if chosen.any()}
    scores = {name: measure(embeddings[chosen], items[chosen], names) for name, chosen in sets.items()}
    if hypotheses is not None:
        for name, chosen in sets.items():
            rows = np.flatnonzero(chosen).tolist()
            scores[name]["errors"] = word_errors([(words[row], hypotheses[row]) for row in rows])
        write_text(cfg.out_dir / "words-hypotheses.tsv", hypotheses_table(ids, words, hypotheses))
    content = {
        "model": restored.source, "feature_layer": restored.model.layers.feature_layer,
        "test_cuts": str(cfg.test_cuts), "sets": scores,
    }
    write_text(cfg.out_dir / "words.json", json.dumps(content, indent=1) + "\n")
    shown = sets.get(cfg.picture, np.ones(len(items), dtype=bool))
    plot_words(cfg.out_dir / "words.png", embeddings[shown], items[shown], names)
    show(scores)
    console.wrote(cfg.out_dir / "words.json", f"and a picture of {int(shown.sum()):,} words")


def check(cfg: Config) -> None:
    for part in (cfg.encoder, cfg.batch):
        part.check()
    for path in (cfg.test_cuts, cfg.train_cuts):
        if not path.is_file():
            raise UserError(f"{path}: no such file; run stage 4 first")
    if cfg.epoch < 0 or cfg.avg < 1 or min(cfg.feature_layer, cfg.workers, cfg.threads) < 0:
        raise UsageError(f"--epoch {cfg.epoch}, --feature-layer {cfg.feature_layer}, --workers {cfg.workers}, "
                         f"--threads {cfg.threads}: not below 0; --avg {cfg.avg}: at least 1")
    if not cfg.exp_dir and not cfg.feature_layer:
        raise UsageError("--feature-layer: say which block the baseline's embeddings are taken from")


def load(cfg: Config) -> RestoredWords:
    from dataclasses import replace

    from icefall_ext.encoders.load import build_encoder
    from icefall_ext.tone.labels import Labels, word_of
    from icefall_ext.tone.model import WordModel
    from icefall_ext.tone.spec import LayerConfig
    from icefall_ext.train.word_training import RestoredWords, restore_words

    if cfg.exp_dir:
        restored = restore_words(Path(cfg.exp_dir), cfg.epoch, cfg.avg)
        console.reads(restored.source)
        if cfg.feature_layer:
            restored.model.layers = replace(restored.model.layers, frozen=0, feature_layer=cfg.feature_layer)
            restored.model.layers.check(restored.model.encoder.num_layers)
        return restored
    labels = Labels.of(word_of(cut, cfg.train_cuts) for cut in read_jsonl(cfg.train_cuts))
    layers = LayerConfig(frozen=0, feature_layer=cfg.feature_layer)
    model = WordModel(build_encoder(cfg.encoder), layers, len(labels.classes), labels.vocab_size)
    return RestoredWords(model.eval(), labels, cfg.encoder.source, part="")


def listen(
    cfg: Config, restored: RestoredWords, device: torch.device
) -> tuple[list[str], list[Word], np.ndarray, list[Word] | None]:
    """Ids, words, embeddings and, of a model that was taught to recognise, what it heard; in the order of the cuts."""
    import numpy as np
    import torch

    from icefall_ext.data.batches import in_order
    from icefall_ext.data.index import CutIndex
    from icefall_ext.data.loading import load_batches
    from icefall_ext.tone.labels import word_of
    from icefall_ext.tone.model import greedy_words

    index, _ = CutIndex.build(cfg.test_cuts, cfg.out_dir / "data", lambda cut: cut["id"], lambda _: [0],
                              lambda *_: None, "words to be scored")
    kept = list(read_jsonl(index.folder / "cuts.jsonl"))
    recognises, model = restored.part not in ("", "stage1"), restored.model.to(device)
    found: dict[str, tuple[np.ndarray, list[int] | None]] = {}
    batches = in_order(index.durations, index.token_counts, cfg.batch)
    with torch.no_grad():
        for batch in load_batches(index, batches, cfg.workers):
            if batch.failed:
                raise UserError(f"{cfg.test_cuts}: {batch.failed[0][1]}")
            heard = model(batch.waveforms.to(device), batch.lengths, embeddings=True, logits=recognises)
            tokens = greedy_words(heard.logits, heard.lengths) if recognises else [None] * len(batch)
            found |= dict(zip(batch.ids, zip(heard.embeddings.float().cpu().numpy(), tokens)))
    ids = [cut["id"] for cut in kept]
    words = [word_of(cut, cfg.test_cuts) for cut in kept]
    embeddings = np.stack([found[id][0] for id in ids])
    return ids, words, embeddings, [restored.labels.decode(found[id][1]) for id in ids] if recognises else None


def measure(embeddings: np.ndarray, items: Items, names: Vocabulary) -> dict[str, Any]:
    from icefall_ext.score import word_embeddings as of
    from icefall_ext.tone.labels import GENDERS

    retrieval = of.cross_gender_retrieval(embeddings, items, GENDERS)
    probes = {"gender": of.gender_probe(embeddings, items), "speaker": of.speaker_probe(embeddings, items)}
    means = {f"mean_{name}": sum(getattr(way, name) for way in retrieval) / len(retrieval)
             for name in ("top1", "top5") if retrieval}
    distances = asdict(of.distances(embeddings, items))
    distances["closest_tones"] = [names.tones[number] for number in distances["closest_tones"] or ()]
    return {
        "recordings": len(items),
        "retrieval": [asdict(way) for way in retrieval],
        **means,
        "distances": distances,
        "probes": {name: asdict(value) for name, value in probes.items() if value},
    }


def show(scores: dict[str, dict[str, Any]]) -> None:
    """A column for each set of speakers."""
    from icefall_ext.score.word_scores import MEASURES

    rows: list[list[str]] = [["recordings", *(f"{one['recordings']:,}" for one in scores.values())]]
    ways = [{way["direction"]: way for way in one["retrieval"]} for one in scores.values()]
    for direction in dict.fromkeys(direction for of_set in ways for direction in of_set):
        found = [of_set.get(direction) for of_set in ways]
        rows.append([f"Top-1 {direction}, gallery", *("{top1:.3f}, {gallery:,}".format(**way) if way else "-"
                                                      for way in found)])
        rows.append([f"Top-5 {direction}", *(f"{way['top5']:.3f}" if way else "-" for way in found)])
    for name, measure in MEASURES.items():
        values = [(one, measure.of(one)) for one in scores.values()]
        if any(value is not None for _, value in values):
            rows.append([measure.title, *("-" if value is None else f"{value:.{measure.digits}f}{_aside(name, one)}"
                                          for one, value in values)])
    console.table(["", *(f"{name} speakers" for name in scores)], rows)


def _aside(name: str, of_set: dict[str, Any]) -> str:
    if name == "closest":
        return " ({}, {})".format(*of_set["distances"]["closest_tones"])
    return f" (chance {of_set['probes'][name]['chance']:.3f})" if name in of_set["probes"] else ""


if __name__ == "__main__":
    run(main, Config)
