"""Where the files of a pre-trained encoder are: a file, a folder, or a model's name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from icefall_ext import console
from icefall_ext.encoders.spec import KNOWN, KnownModel, known_model
from icefall_ext.errors import UserError

_INDEX = ".index.json"  # names the shards of a large model
_IN_A_FOLDER = ("model.safetensors", f"model.safetensors{_INDEX}", "pytorch_model.bin", f"pytorch_model.bin{_INDEX}")
_SUFFIXES = (".safetensors", ".bin", ".pt")
_HUB_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Source:
    """The files to read; `known` where the name is that of a published model."""

    weights: tuple[Path, ...]  # one, or the shards of one
    config: Path | None
    known: KnownModel | None = None
    by_name: bool = False  # the name alone was given, so the files must be that model's

    @property
    def folder(self) -> Path:
        return self.weights[0].parent


def find_source(source: str, weights_dir: Path) -> Source:
    """A path is taken as it is; a name is looked up in `weights_dir`, among downloaded models, on the model hub."""
    path = Path(source).expanduser()
    if path.is_dir():
        return _in_folder(path, known_model(path.resolve().name))
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise UserError(f"{path}: an encoder is a {', '.join(_SUFFIXES)} file or a folder")
        config = path.with_name("config.json")
        known = known_model(path.resolve().parent.name)
        return Source((path,), config if config.is_file() else None, known)
    known = known_model(source)
    if known is None and (path.suffix in _SUFFIXES or source.startswith(("/", ".", "~")) or source.count("/") != 1):
        raise UserError(f"{source}: no such file or folder, and no known model ({', '.join(KNOWN)}); "
                        "untrained weights are random:SIZE")
    hub_name = known.hub if known else source
    for name in dict.fromkeys((known.name if known else source, hub_name, hub_name.split("/")[-1])):
        if (weights_dir / name).is_dir():
            return _in_folder(weights_dir / name, known, by_name=known is not None)
    return _in_folder(_from_hub(source, hub_name, known, weights_dir), known, by_name=known is not None)


def _in_folder(folder: Path, known: KnownModel | None, by_name: bool = False) -> Source:
    config = folder / "config.json"
    config = config if config.is_file() else None
    for name in _IN_A_FOLDER:
        path = folder / name
        if path.is_file():
            return Source(_shards(path) if path.suffix == ".json" else (path,), config, known, by_name)
    fairseq = sorted(folder.glob("*.pt"))
    if len(fairseq) == 1:
        return Source((fairseq[0],), config, known, by_name)
    found = ", ".join(sorted(item.name for item in folder.iterdir())[:8]) or "nothing"
    raise UserError(f"{folder}: no encoder in it; expected config.json with model.safetensors or pytorch_model.bin, or "
                    f"one fairseq .pt file; found {found}")


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{index}: not an index of weight files ({error!r})") from None
    paths = tuple(index.with_name(Path(str(name)).name) for name in names)
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not paths:
        raise UserError(f"{index}: names {', '.join(missing) or 'nothing'}, not there; fetch it into {index.parent}/")
    return paths


def _from_hub(source: str, hub_name: str, known: KnownModel | None, weights_dir: Path) -> Path:
    """The folder of a downloaded model, downloading it if the hub answers; never waits for one that does not."""
    from huggingface_hub import HfApi, constants, hf_hub_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        folder = Path(hf_hub_download(hub_name, "config.json", local_files_only=True)).parent
        if any((folder / name).is_file() for name in _IN_A_FOLDER):
            return folder
    except Exception:  # not there, or not a name that a hub can have: the line below says what to do
        pass
    reason = "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        try:
            info = HfApi().model_info(hub_name, timeout=_HUB_TIMEOUT_S)
            present = {sibling.rfilename for sibling in info.siblings or ()}
            console.says(f"fetching {hub_name} from the model hub")
            wanted = _wanted(hub_name, present)
            paths = [Path(hf_hub_download(hub_name, name)) for name in wanted]
            for path in paths:
                if path.name.endswith(_INDEX):
                    shards = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
                    paths += [Path(hf_hub_download(hub_name, shard)) for shard in sorted(shards)]
            return paths[0].parent
        except RepositoryNotFoundError:
            reason = "the model hub has no such model"
        except UserError:
            raise
        except Exception as error:  # no network, a proxy, a full disk: each layer has errors of its own
            reason = f"the model hub cannot be reached ({type(error).__name__})"
    files = f"config.json and {known.weights}" if known else (
        "config.json, preprocessor_config.json and model.safetensors (or pytorch_model.bin)"
    )
    target = weights_dir / (known.name if known else hub_name.split("/")[-1])
    raise UserError(f"{source}: no such folder, not in {weights_dir}/, not downloaded, and {reason}; fetch {files} of "
                    f"{hub_name} into {target}/")


def _wanted(hub_name: str, present: set[str]) -> list[str]:
    weights = next((name for name in _IN_A_FOLDER if name in present), None)
    if "config.json" not in present or weights is None:
        raise UserError(f"{hub_name}: the model hub has no config.json with weights there, only "
                        f"{', '.join(sorted(present)[:8])}")
    return ["config.json", *({"preprocessor_config.json"} & present), weights]
