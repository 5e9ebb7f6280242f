"""Whether an encoder can be loaded: its files, every tensor of it, and the size of its parts."""

from __future__ import annotations

from dataclasses import dataclass

from icefall_ext import console
from icefall_ext.cli import group, run
from icefall_ext.encoders.spec import EncoderConfig


@dataclass
class Config:
    encoder: EncoderConfig = group(EncoderConfig, "speech encoder")


def main(cfg: Config) -> None:
    from icefall_ext.encoders.freezing import parameter_counts
    from icefall_ext.encoders.load import build_encoder

    encoder = build_encoder(cfg.encoder)
    rows = [(part, f"{count:,}", f"{trained:,}") for part, count, trained in parameter_counts(encoder)]
    console.table(("part", "parameters", "that train"), rows)
    console.says(f"a frame every {encoder.samples_per_frame / 16:g} ms, {encoder.output_dim} wide")


if __name__ == "__main__":
    run(main, Config)
