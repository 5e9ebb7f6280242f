"""The files of one setting over one test set, in the folder of its method; NAME is {part}-{method}-{suffix}.

    recogs-NAME.txt                 icefall's; utterances with a reference, by id
    unscored-NAME.txt               `id text` of those without one, where there are any
    nbest-NAME.jsonl                with --nbest: readings, their scores, tokens and times
    timestamps-NAME.jsonl           with --timestamps: times of the tokens, and of the characters or syllables
    decoding-{part}-{suffix}.json   how it was done: written last, so where it stands the others are whole
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icefall_ext.decode.options import Setting
from icefall_ext.decode.timing import as_objects, units_of
from icefall_ext.files import digest_of_file, open_jsonl_for_writing, open_text_for_writing, write_text
from icefall_ext.score.error_rates import script as script_named
from icefall_ext.score.icefall_files import Recog, write_recogs
from icefall_ext.text.bbpe import ByteBPE
from icefall_ext.transducer.search import Hypothesis, Result


@dataclass(frozen=True)
class Writing:
    """What every setting's files have in common."""

    exp_dir: Path
    part: str
    of_model: str  # Restored.suffix
    bpe: ByteBPE
    script: str
    seconds_per_frame: float
    nbest: int = 1
    timestamps: bool = False

    def files_of(self, setting: Setting) -> ResultFiles:
        return ResultFiles(self, setting, self.exp_dir / setting.method, setting.suffix(self.of_model))


@dataclass(frozen=True)
class ResultFiles:
    common: Writing
    setting: Setting
    folder: Path
    suffix: str

    @property
    def name(self) -> str:
        return f"{self.common.part}-{self.setting.method}-{self.suffix}"

    @property
    def recogs(self) -> Path:
        return self.folder / f"recogs-{self.name}.txt"

    @property
    def unscored(self) -> Path:
        return self.folder / f"unscored-{self.name}.txt"

    @property
    def nbest(self) -> Path:
        return self.folder / f"nbest-{self.name}.jsonl"

    @property
    def timestamps(self) -> Path:
        return self.folder / f"timestamps-{self.name}.jsonl"

    @property
    def decoding(self) -> Path:
        return self.folder / f"decoding-{self.common.part}-{self.suffix}.json"

    def is_made_from(self, key: str) -> bool:
        """Whether an earlier run decoded the same, all of it, and nothing touched its recogs since."""
        try:
            earlier = json.loads(self.decoding.read_text(encoding="utf-8"))
            whole = earlier["made_from"] == key and not earlier["failed"]
            return whole and earlier["recogs_digest"] == digest_of_file(self.recogs)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def write(self, results: Mapping[str, Result], references: Mapping[str, str], about: Mapping[str, Any]) -> None:
        """`results` by id."""
        for path in (self.decoding, self.unscored, self.nbest, self.timestamps):  # an earlier model's
            path.unlink(missing_ok=True)
        ids = sorted(results)
        texts = {id: self.common.bpe.decode(results[id].tokens) for id in ids}
        if self.common.nbest > 1 and self.setting.has_nbest:
            self._write_nbest(results, ids)
        if self.common.timestamps:
            self._write_timestamps(results, ids)
        unscored = [id for id in ids if id not in references]
        if unscored:
            with open_text_for_writing(self.unscored) as stream:
                stream.writelines(f"{id} {' '.join(texts[id].split())}".rstrip() + "\n" for id in unscored)
        script = script_named(self.common.script)
        write_recogs(self.recogs, (
            Recog(id, *script.tokens(script.read(references[id], texts[id]))) for id in ids if id in references))
        about = {**about, "recogs": self.recogs.name, "recogs_digest": digest_of_file(self.recogs)}
        write_text(self.decoding, json.dumps(about, ensure_ascii=False, indent=1) + "\n")

    def _write_nbest(self, results: Mapping[str, Result], ids: list[str]) -> None:
        with open_jsonl_for_writing(self.nbest) as stream:
            for id in ids:
                stream.write({"id": id, "nbest": [
                    {"score": h.score, "text": self.common.bpe.decode(h.tokens), **self._tokens(h)}
                    for h in results[id].nbest]})

    def _write_timestamps(self, results: Mapping[str, Result], ids: list[str]) -> None:
        common = self.common
        with open_jsonl_for_writing(self.timestamps) as stream:
            for id in ids:
                best = results[id].best
                text, units, _ = units_of(common.bpe, best, common.seconds_per_frame)
                stream.write({"id": id, "text": text, **self._tokens(best), "units": as_objects(units)})

    def _tokens(self, hypothesis: Hypothesis) -> dict[str, list]:
        seconds = [round(frame * self.common.seconds_per_frame, 3) for frame in hypothesis.frames]
        return {"tokens": [self.common.bpe.pieces[token] for token in hypothesis.tokens], "seconds": seconds}
