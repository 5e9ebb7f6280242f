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
from icefall_ext.audit import Audit, open_audit, stop_if_rejected, summarise
from icefall_ext.cli import option, required, run
from icefall_ext.data_dir import DataDir
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
    strict: bool = option(False, "exit with 1 if anything was rejected")


def main(cfg: Config) -> None:
    data_dir = DataDir(cfg.data_dir, cfg.corpus)
    preparer = TextPreparer(cfg.tailo_form, cfg.unknown_characters == "keep")
    audits = {data_dir.audit("text", part): prepare_part(cfg, data_dir, part, preparer) for part in cfg.parts}
    changes = ", ".join(f"{kind} {count:,}" for kind, count in preparer.changes.most_common())
    console.says(f"changed in Han-Lo text: {changes or 'nothing'}")
    for line in summarise(audits.values()):
        console.says(line)
    if cfg.strict:
        stop_if_rejected(audits)


def prepare_part(cfg: Config, data_dir: DataDir, part: str, preparer: TextPreparer) -> Audit:
    source, target = data_dir.supervisions(part), data_dir.prepared_supervisions(part)
    lines: Counter[str] = Counter()
    console.reads(source)
    with ExitStack() as stack:
        audit = stack.enter_context(open_audit(data_dir.audit("text", part)))
        out = stack.enter_context(open_jsonl_for_writing(target))
        text = {name: stack.enter_context(open_text_for_writing(data_dir.text(part, name))) for name in SCRIPTS}
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
    console.wrote(target, f"{lines['hanlo']:,} utterances, {lines['tailo']:,} with Tai-lo")
    console.wrote(data_dir.text(part, "{hanlo,tailo}"))
    console.wrote(data_dir.audit("text", part), audit.totals())
    return audit


if __name__ == "__main__":
    run(main, Config)
