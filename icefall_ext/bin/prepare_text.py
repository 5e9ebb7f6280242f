"""Supervisions with their text in one canonical form per script, and plain text files to train tokenizers on.

Below the data folder it reads manifests/{corpus}_supervisions_{part}.jsonl.gz and writes
text/{corpus}_supervisions_{part}.jsonl.gz, text/{part}.{hanlo,tailo} and audit/{corpus}_text_{part}.tsv.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from icefall_ext import console
from icefall_ext.audit import REJECTED, open_audit
from icefall_ext.cli import option, required, run
from icefall_ext.errors import UserError
from icefall_ext.files import open_jsonl_for_writing, open_text_for_writing, read_jsonl
from icefall_ext.text.prepare import SCRIPTS, TextPreparer


@dataclass
class Config:
    corpus: str = required("prefix of the manifests")
    data_dir: Path = required("where the manifests are, and text and audit go")
    parts: list[str] = option(["train", "dev", "test"], "parts of the corpus")
    scripts: list[str] = option(list(SCRIPTS), "scripts that the training part has to have", choices=SCRIPTS)
    tailo_form: str = option("number", "how tones are written", choices=("number", "diacritic"))
    unknown_characters: str = option(
        "reject", "what happens to sentences outside the alphabet", choices=("reject", "keep")
    )
    strict: bool = option(False, "exit status 1 if anything is rejected")


def main(cfg: Config) -> None:
    preparer = TextPreparer(cfg.tailo_form, cfg.unknown_characters == "keep")
    for part in cfg.parts:
        prepare_part(cfg, part, preparer)
    changes = ", ".join(f"{kind} {count:,}" for kind, count in preparer.changes.most_common())
    console.says(f"changed in Han-Lo text: {changes or 'nothing'}")


def prepare_part(cfg: Config, part: str, preparer: TextPreparer) -> None:
    source = cfg.data_dir / f"manifests/{cfg.corpus}_supervisions_{part}.jsonl.gz"
    folder = cfg.data_dir / "text"
    lines: Counter[str] = Counter()
    with ExitStack() as stack:
        audit = stack.enter_context(open_audit(cfg.data_dir / f"audit/{cfg.corpus}_text_{part}.tsv", strict=cfg.strict))
        out = stack.enter_context(open_jsonl_for_writing(folder / f"{cfg.corpus}_supervisions_{part}.jsonl.gz"))
        text = {name: stack.enter_context(open_text_for_writing(folder / f"{part}.{name}")) for name in SCRIPTS}
        for item in console.progress(read_jsonl(source), part):
            prepared = preparer.prepare(item, audit)
            if prepared is None:
                continue
            out.write(prepared)
            for name, line in (("hanlo", prepared["text"]), ("tailo", prepared["custom"].get("tailo"))):
                if line:
                    text[name].write(line + "\n")
                    lines[name] += 1
        for script in cfg.scripts if part == "train" else ():
            if not lines[script]:
                field = "text" if script == "hanlo" else "Tai-lo (a table's column `phonetic`)"
                raise UserError(f"{source}: no usable {field} in it, and the recipe trains on {script}")
    console.wrote(
        folder / f"{cfg.corpus}_supervisions_{part}.jsonl.gz",
        f"{lines['hanlo']:,} kept, {lines['tailo']:,} with Tai-lo, {audit.total(REJECTED):,} rejected",
    )
    for line in audit.summary():
        console.says(f"  {line}")


if __name__ == "__main__":
    run(main, Config)
