"""Learn a byte-level BPE vocabulary from text files.

Reads plain text, one sentence a line; writes bbpe.model, unigram_<size>.model, tokens.txt and words.txt.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from icefall_ext import console
from icefall_ext.cli import option, required, run
from icefall_ext.files import count_lines, read_lines
from icefall_ext.text.bbpe import ByteBPE
from icefall_ext.text.hanlo import count_syllables


@dataclass
class Config:
    text: list[Path] = required("text files, one sentence a line")
    lang_dir: Path = required("folder to write")
    vocab_size: int = option(500, "tokens, special symbols included")


def main(cfg: Config) -> None:
    for path in cfg.text:
        console.reads(path, f"{count_lines(path):,} lines")
    bpe = ByteBPE.train(cfg.text, cfg.vocab_size, cfg.lang_dir)
    console.wrote(cfg.lang_dir, f"{bpe.vocab_size} tokens, {tokens_per_syllable(bpe, cfg.text):.1f} tokens/syllable")


def tokens_per_syllable(bpe: ByteBPE, texts: list[Path]) -> float:
    """How long the targets are; a Han character counts as a syllable."""
    tokens = syllables = 0
    for path in texts:
        for line in read_lines(path):
            tokens += len(bpe.encode(line))
            syllables += count_syllables(line)
    return tokens / max(1, syllables)


if __name__ == "__main__":
    run(main, Config)
