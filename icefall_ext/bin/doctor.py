"""What is installed here, what would run on it, and how to mend what does not fit together.

Exit status 1 if anything does not fit.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path

from icefall_ext import console
from icefall_ext.cli import option, run
from icefall_ext.parallel import cores

PACKAGES = ("torch", "torchaudio", "lhotse", "numpy", "sentencepiece", "soundfile", "kaldialign", "omegaconf",
            "transformers", "safetensors", "tensorboard")
OPTIONAL = ("k2", "kaldifeat", "triton", "lilcom")


@dataclass
class Config:
    disk: Path = option(Path("."), "where data and experiments will be written")


@dataclass(frozen=True)
class Installed:
    """Versions as the package metadata has them, and why a package does not import, where it does not."""

    versions: dict[str, str]
    broken: dict[str, str]

    @staticmethod
    def look() -> Installed:
        versions, broken = {}, {}
        for name in PACKAGES + OPTIONAL:
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
            try:
                import_module(name)
            except Exception as error:  # a binary for another torch fails in many ways
                broken[name] = (str(error) or type(error).__name__).strip().splitlines()[0]
        return Installed(versions, broken)

    def major_minor(self, name: str) -> tuple[int, int]:
        major, minor = self.versions[name].split("+")[0].split(".")[:2]
        return int(major), int(minor)


def problems(installed: Installed, lane: str) -> list[tuple[str, str]]:
    """What does not fit, and the command that mends it. The first cause comes first."""
    python, found = "python -m pip", []
    versions = installed.versions
    missing = [name for name in PACKAGES if name not in versions]
    if missing:
        found.append((f"not installed: {', '.join(missing)}", f"local/env.sh --lane {lane}"))
    if "torch" in versions:
        major, minor = installed.major_minor("torch")
        if major == 1 and "numpy" in versions and installed.major_minor("numpy") >= (2, 0):
            found.append(
                (
                    f"numpy {versions['numpy']} with torch {versions['torch']}, which needs numpy 1",
                    f"{python} install 'numpy<2'",
                )
            )
        partner = (major, minor) if major > 1 else (0, minor)
        if "torchaudio" in versions and installed.major_minor("torchaudio") != partner:
            wanted = f"{partner[0]}.{partner[1]}.*"
            found.append(
                (
                    f"torchaudio {versions['torchaudio']} with torch {versions['torch']}",
                    f"{python} install 'torchaudio=={wanted}'",
                )
            )
    if "lhotse" in versions and installed.major_minor("lhotse") >= (2, 0):
        found.append(
            (
                f"lhotse {versions['lhotse']}: 2.0 refuses a sampler state saved on another rank",
                f"{python} install 'lhotse>=1.33,<2'",
            )
        )
    for name, why in installed.broken.items():
        if name == "k2":
            mend = f"{python} uninstall -y k2 (the native backends give the same numbers), or local/env.sh --lane k2"
            if lane == "k2":
                mend = "rm -rf .venv-k2 && local/env.sh --lane k2"
            found.append((f"k2 {versions['k2']} does not load: {why}", mend))
        elif name in OPTIONAL:
            found.append((f"{name} {versions[name]} does not load: {why}", f"{python} uninstall -y {name}"))
        elif not found:  # mostly the consequence of what was found above
            found.append(
                (f"{name} does not import: {why}", f"{python} install --force-reinstall '{name}=={versions[name]}'")
            )
    if lane == "k2" and "k2" not in versions:
        found.append(("k2 is not installed, and this is the k2 lane", "local/env.sh --lane k2"))
    return found


def _gpus() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none"
    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return ", ".join(f"{d.name} ({d.total_memory / 2**30:.0f} GiB)" for d in devices)


def _memory() -> str:
    try:
        with open("/proc/meminfo", encoding="ascii") as stream:
            kb = {line.split(":")[0]: int(line.split()[1]) for line in stream}
        return f"{kb['MemTotal'] / 2**20:.0f} GiB, {kb['MemAvailable'] / 2**20:.0f} GiB available"
    except OSError:  # not Linux
        return "unknown"


def main(cfg: Config) -> int:
    lane = os.environ.get("LANE", "default")
    installed = Installed.look()
    found = problems(installed, lane)
    console.says(f"{lane} lane, Python {platform.python_version()} at {sys.executable}")
    for name in PACKAGES + OPTIONAL:
        state = installed.versions.get(name, "-" if name in OPTIONAL else "missing")
        console.says(f"  {name:<14} {state}{'  does not load' if name in installed.broken else ''}")
    if "torch" in installed.versions and "torch" not in installed.broken:
        console.says(f"  {'GPU':<14} {_gpus()}")
    console.says(f"  {'cores, memory':<14} {cores()}, {_memory()}")
    console.says(f"  {'disk':<14} {shutil.disk_usage(cfg.disk).free / 1e9:.0f} GB free in {cfg.disk.resolve()}")
    if not found:
        import torch

        from icefall_ext.transducer.loss import backends
        from icefall_ext.transducer.search import choose_backend

        device = "cuda" if torch.cuda.is_available() else "cpu"
        loss = backends.choose("auto", torch.zeros(1, device=device)).name
        console.says(f"  {'loss':<14} --rnnt-backend auto runs {loss}")
        console.says(f"  {'search':<14} --search-backend auto runs {choose_backend('fast_beam_search', 'auto')}")
    for what, mend in found:
        console.says(f"PROBLEM  {what}")
        console.says(f"   mend  {mend}")
    console.says(f"{len(found)} problem{'s' if len(found) != 1 else ''} found" if found else "everything fits")
    return 1 if found else 0


if __name__ == "__main__":
    run(main, Config)
