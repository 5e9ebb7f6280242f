"""Files that torch.save wrote, read without running anything that is in them.

A pickle names classes and functions and has them called. Here only plain containers are really there, and our own way
to rebuild a tensor; every other name stands for `Inert`, which records what it is given and does nothing. So the
configuration objects of fairseq (argparse namespaces, omegaconf trees, its own classes) come out as data, and so does
an attack.

torch.load is not used: torch 1.13 accepts a `pickle_module` and ignores it, and its `weights_only` can be got around
with an archive of another format.
"""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from icefall_ext.errors import UserError

_CONTAINERS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): tuple,
    **{(module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in (set, list, dict, tuple)},
}
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # of files from before torch 1.6: pickles one after another, then raw numbers


class Inert:
    """What is left of an object of any other class: the arguments it was made from, its state, its items."""

    def __new__(cls, *arguments: Any, **_: Any) -> Inert:
        made = super().__new__(cls)
        made.arguments, made.state, made.items = arguments, None, {}
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        self.items[len(self.items)] = value

    add = append

    def extend(self, values: Any) -> None:
        for value in values:
            self.append(value)


class _Unpickler(pickle.Unpickler):
    """`storage(dtype, key, count)` gives the numbers of one storage as a flat tensor."""

    def __init__(self, stream: IO[bytes], storage: Callable[[torch.dtype, str, int], Tensor] | None = None):
        super().__init__(stream, encoding="utf-8")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """A new stand-in each time: a pickle may set attributes on what it names, which must not be shared."""
        if (module, name) in _CONTAINERS:
            return _CONTAINERS[module, name]  # immutable, all of them
        if module in ("torch", "torch.cuda") and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            # as_strided checks that nothing lies outside the storage
            return lambda flat, offset, size, stride, *_: flat.as_strided(tuple(size), tuple(stride), offset)
        if module == "torch._utils" and name == "_rebuild_parameter":
            return lambda data, *_: data
        return type("Inert", (Inert,), {})

    def persistent_load(self, saved: Any) -> Any:
        if saved[0] != "storage" or self._storage is None:
            return saved[1]  # a module's class, with its source
        _, dtype, key, _, count, *view = saved
        if any(view):
            raise ValueError("a storage inside a storage, which only old versions of torch wrote")
        return self._storage(dtype, key, count)


def read_pickled(path: Path, tensors: bool = True) -> Any:
    """Tensors on the CPU, containers and scalars as they are, everything else inert. What an archive holds is compared
    with its checksums. Without `tensors` they are left on the disk, and have a shape only."""
    try:
        if zipfile.is_zipfile(path):
            return _read_zip(path, tensors)
        if tarfile.is_tarfile(path):
            raise UserError(f"{path}: a tar archive, not a checkpoint; unpack it and name the file inside")
        return _read_legacy(path)
    except (UserError, PermissionError):
        raise
    except Exception as error:  # a broken file fails in as many ways as there are bytes
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not a checkpoint that can be read safely ({reason[:150]})") from None


def _read_zip(path: Path, tensors: bool) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        pickled = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if any(name.endswith("/constants.pkl") for name in names):
            raise UserError(f"{path}: TorchScript code, not a checkpoint; use the file it was made from")
        if len(pickled) != 1:
            raise UserError(f"{path}: a zip archive, but not of torch.save")
        root = pickled[0].rpartition("/")[0]
        flats: dict[str, Tensor] = {}

        def storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
            if key not in flats:
                flats[key] = (_numbers(archive.read(f"{root}/data/{key}"), dtype) if tensors
                              else torch.empty(count, dtype=dtype, device="meta"))
            return flats[key]

        return _Unpickler(io.BytesIO(archive.read(pickled[0])), storage).load()  # to its end, where the checksum is


def _read_legacy(path: Path) -> Any:
    size = path.stat().st_size
    flats: dict[str, Tensor] = {}

    def storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
        if key not in flats:
            if not 0 <= count * torch.empty(0, dtype=dtype).element_size() <= size:
                raise ValueError(f"a tensor of {count} numbers in a file of {size} bytes")
            flats[key] = torch.empty(count, dtype=dtype)
        return flats[key]

    with open(path, "rb") as stream:
        if _Unpickler(stream).load() != _LEGACY_MAGIC:
            raise ValueError("another kind of pickle")
        _protocol, _system = _Unpickler(stream).load(), _Unpickler(stream).load()
        content = _Unpickler(stream, storage).load()
        for key in _Unpickler(stream).load():
            (count,) = struct.unpack("<q", stream.read(8))
            if count != len(flats[key]):
                raise ValueError(f"{count} numbers where {len(flats[key])} are announced")
            flats[key].copy_(_numbers(stream.read(count * flats[key].element_size()), flats[key].dtype))
    return content


def _numbers(content: bytes, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)


def refuse_pointer(path: Path) -> None:
    """A clone without Git LFS leaves a few lines of text in place of the weights."""
    with open(path, "rb") as stream:
        if stream.read(40).startswith(b"version https://git-lfs"):
            raise UserError(f"{path}: a Git LFS pointer, not the weights; run `git lfs pull` where it came from")


def plain(value: Any) -> Any:
    """Containers and scalars from what was read: namespaces and omegaconf trees as dicts, enums as their values."""
    if isinstance(value, Inert):
        state = value.state
        if isinstance(state, tuple) and len(state) == 2:  # (attributes, slots)
            state = {**(state[0] or {}), **(state[1] or {})}
        if isinstance(state, Mapping):
            for key in ("_content", "_val"):  # omegaconf's containers, its leaves
                if key in state:
                    return plain(state[key])
            return plain(state)
        if value.items:
            return plain(value.items)
        return plain(value.arguments[0]) if len(value.arguments) == 1 else [plain(item) for item in value.arguments]
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items() if not isinstance(key, Inert)}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
