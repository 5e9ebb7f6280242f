"""The folder of one training: what was asked for, by which code, on which machine, and what it said.

    folder = RunFolder.start(cfg, exp_dir, may_differ=("device", "workers"))

A folder belongs to one configuration. The same command continues in it; another configuration is refused, before
anything is written.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from icefall_ext import console
from icefall_ext.errors import UsageError, UserError
from icefall_ext.files import write_text

_PACKAGES = ("torch", "torchaudio", "k2", "lhotse", "numpy", "sentencepiece", "transformers")


@dataclass(frozen=True)
class RunFolder:
    path: Path

    @staticmethod
    def start(cfg: Any, path: Path, may_differ: Sequence[str] = ()) -> RunFolder:
        """`may_differ`: options that change where or how long a training runs, not what it computes."""
        from omegaconf import OmegaConf

        wanted = OmegaConf.to_container(OmegaConf.structured(cfg), enum_to_str=True)
        wanted = json.loads(json.dumps(wanted, default=str))  # paths as text
        (path / "log").mkdir(parents=True, exist_ok=True)
        take_lock(path)
        for left_behind in path.glob(".*.partial"):  # by a run that was killed while it wrote
            if left_behind.is_file():
                left_behind.unlink()
        defaults = flat(OmegaConf.to_container(OmegaConf.structured(type(cfg)), enum_to_str=True))
        saved = path / "config.yaml"
        if saved.is_file():
            try:
                earlier = OmegaConf.to_container(OmegaConf.load(saved))
            except Exception as error:  # yaml and OmegaConf each have a family of their own
                raise UserError(f"{saved}: cannot be read ({str(error).splitlines()[0]}); mend or remove it") from None
            earlier = {**json.loads(json.dumps(defaults, default=str)), **flat(earlier)}  # options that came later
            _refuse_other_configuration(path, earlier, flat(wanted), may_differ)
        elif path.is_dir() and any(path.glob("*.pt")):
            raise UserError(f"{path}: holds checkpoints but no config.yaml; name another folder, or empty it")
        folder = RunFolder(path)
        write_text(saved, OmegaConf.to_yaml(OmegaConf.create(wanted)))
        write_text(path / "run.json", json.dumps(provenance(), indent=1) + "\n")
        folder._log_to_file()
        return folder

    def _log_to_file(self) -> None:
        """Everything that modules log goes into log/log-train-DATE; what is for the person goes to the terminal too."""
        handler = _LogFile(self.path / "log" / time.strftime("log-train-%Y-%m-%d-%H-%M-%S"))
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s [%(module)s:%(lineno)d] %(message)s"))
        root = logging.getLogger("icefall_ext")
        for old in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
            root.removeHandler(old)
            old.close()
        root.addHandler(handler)
        root.setLevel(logging.INFO)

    @property
    def metrics(self) -> Path:
        return self.path / "log" / "metrics.jsonl"


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk ends the training, in one line, and not with a traceback for every line of the log."""
        raise  # noqa: PLE0704


_locks: dict[Path, IO[str]] = {}  # open until the process ends, whatever ends it


def take_lock(path: Path) -> None:
    """Two trainings in one folder would overwrite each other's checkpoints.

    The system holds the lock for this process alone and drops it with the process: no crash leaves one behind, and no
    loading process that outlives it keeps it. On a file server that locks it holds between machines.
    """
    if path.resolve() in _locks:
        return
    stream = open(path / ".lock", "a+", encoding="utf-8")
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # which of them depends on the system
        stream.seek(0)
        raise UserError(f"{path}: {stream.read().strip() or 'another process'} is training there; wait for it, or name "
                        "another folder") from None
    except OSError:
        pass  # a file system without locks
    stream.truncate(0)
    stream.write(f"process {os.getpid()} on {platform.node()}")
    stream.flush()
    _locks[path.resolve()] = stream


def says(text: str) -> None:
    """A line for the person and for the log."""
    console.says(text)
    logging.getLogger("icefall_ext.train").info(text)


def provenance() -> dict[str, Any]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    return {
        "commit": commit(),
        "versions": versions,
        "host": platform.node(),
        "python": platform.python_version(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join([os.environ.get("CALLED_AS", "python"), *sys.argv]),
    }


def commit() -> str:
    """Of the code, with a + where it was changed since; empty outside a checkout. Results are not code.

    The copy that a cluster's jobs run has it in a file: the checkout around the copy may have moved on.
    """
    root = Path(__file__).parents[2]
    written = root / "COMMIT"
    if written.is_file():
        return written.read_text(encoding="utf-8").strip()

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "-uno", "--", ":/", ":(exclude,top,glob)egs/*/RESULTS.md")
        return git("rev-parse", "--short=10", "HEAD") + "+" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return ""


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return values


def _refuse_other_configuration(
    path: Path, earlier: Mapping[str, Any], wanted: Mapping[str, Any], may_differ: Sequence[str]
) -> None:
    differing = [key for key in {**earlier, **wanted} if earlier.get(key) != wanted.get(key) and key not in may_differ]
    if differing and any(path.glob("*.pt")):
        first = differing[0]
        more = f" (and {', '.join(differing[1:5])}{'...' if differing[5:] else ''})" if differing[1:] else ""
        flag = "--" + first.replace("_", "-")
        raise UsageError(f"{path}: trained with {flag} {earlier.get(first)}, not {wanted.get(first)}{more}; name "
                         "another folder, or remove this one to begin anew")
