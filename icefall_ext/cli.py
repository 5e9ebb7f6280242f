"""A dataclass as the command line of a program: defaults, then a yaml file, then `--key value`.

    @dataclass
    class Config:
        text: list[str] = required("text files, one sentence a line")
        vocab_size: int = option(500, "tokens, special symbols included")
        form: str = option("number", "how tones are written", choices=("number", "diacritic"))

    if __name__ == "__main__":
        run(main, Config)

`--vocab-size 300`, `--vocab-size=300` and `--vocab_size 300` are the same; a list takes all values up to the next
option; `--flag` alone means true and `--flag false` is false; dots reach into a nested dataclass (`--train.lr 0.1`).
Where a field is `positional`, words that belong to no option are its values, and so is all that follows a `--`.
OmegaConf checks names and types, here and in yaml files (`--config FILE`): an unknown key is an error, never ignored.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import os
import sys
import typing
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

from icefall_ext.errors import UsageError, UserError
from icefall_ext.files import NO_SPACE, no_space

C = TypeVar("C")
_OF_THE_USERS_FILES = (PermissionError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
_MISSING = "???"  # OmegaConf's mark of a value that must be given
_TRUTHS = ("true", "false", "yes", "no", "on", "off", "1", "0")  # as OmegaConf reads them


def option(default: Any, help: str, *, choices: Sequence[str] = ()) -> Any:
    metadata = {"help": help, "choices": tuple(choices)}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: copy.copy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def required(help: str, *, choices: Sequence[str] = ()) -> Any:
    return option(_MISSING, help, choices=choices)


def positional(help: str, shown: str) -> Any:
    """A list of what stands on the command line without an option; `shown` stands for one of them in the help."""
    return dataclasses.field(default=_MISSING, metadata={"help": help, "choices": (), "positional": shown})


def group(config_class: type, help: str) -> Any:
    """A nested dataclass with its own defaults."""
    return dataclasses.field(default_factory=config_class, metadata={"help": help, "choices": ()})


@dataclasses.dataclass(frozen=True)
class _Key:
    name: str  # as in Python, dots for nesting
    type: Any
    default: Any
    help: str
    choices: tuple[str, ...]
    positional: str = ""

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def shown(self) -> str:
        return f"{self.positional}..." if self.positional else self.flag

    @property
    def is_list(self) -> bool:
        return typing.get_origin(self.type) in (list, tuple)


def _keys(config_class: type, prefix: str = "") -> list[_Key]:
    hints, keys = typing.get_type_hints(config_class), []
    for field in dataclasses.fields(config_class):
        if dataclasses.is_dataclass(hints[field.name]):
            keys += _keys(hints[field.name], f"{prefix}{field.name}.")
            continue
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        if default is dataclasses.MISSING:
            default = _MISSING
        metadata = field.metadata
        keys.append(
            _Key(prefix + field.name, hints[field.name], default, metadata.get("help", ""), metadata.get("choices", ()),
                 metadata.get("positional", ""))
        )
    return keys


def _help(program: str, description: str, keys: list[_Key]) -> str:
    lines = [f"{program}: {description}", ""]
    width = max([len(key.shown) for key in keys] + [len("--config FILE")])
    for key in sorted(keys, key=lambda key: not key.positional):
        choices = f"one of {', '.join(key.choices)}" if key.choices else ""
        notes = "; ".join(filter(None, (choices, _default_note(key.default))))
        lines.append(f"  {key.shown:<{width}}  {key.help}" + (f" ({notes})" if notes else ""))
    lines.append(f"  {'--config FILE':<{width}}  read values from a yaml file first")
    return "\n".join(lines)


def _default_note(default: Any) -> str:
    """The default as it would be typed; nothing for an empty one."""
    if default == _MISSING:
        return "required"
    typed = " ".join(map(str, default)) if isinstance(default, (list, tuple)) else str(default)
    if isinstance(default, bool) or default is None:
        typed = typed.lower()
    return f"default {typed}" if typed else ""


def _values_by_flag(argv: Sequence[str], keys: list[_Key]) -> tuple[list[str], dict[str, list[str]]]:
    known = {key.name: key for key in keys}
    rest = next((key.name for key in keys if key.positional), "")
    configs: list[str] = []
    values: dict[str, list[str]] = {}
    position = 0
    while position < len(argv):
        word = argv[position]
        position += 1
        if rest and word == "--":
            values[rest] = values.get(rest, []) + list(argv[position:])
            break
        if rest and not word.startswith("--"):
            values[rest] = [*values.get(rest, []), word]
            continue
        if not word.startswith("--") or word == "--":
            raise UsageError(f"{word}: not an option; options look like --key value (see --help)")
        flag, equals, attached = word.partition("=")
        name = flag[2:].replace("-", "_")
        if name != "config" and name not in known:
            near = get_close_matches(flag, [key.flag for key in keys], n=1)
            raise UsageError(f"{flag}: unknown option{f'; did you mean {near[0]}?' if near else ''} (see --help)")
        given = [attached] if equals else []
        takes_many = name != "config" and known[name].is_list
        is_switch = name != "config" and known[name].type is bool
        while not equals and position < len(argv) and not argv[position].startswith("--") and (takes_many or not given):
            if rest and is_switch and argv[position].lower() not in _TRUTHS:
                break  # it is none of its values
            given.append(argv[position])
            position += 1
        if not given and is_switch:
            given = ["true"]
        if not given:
            raise UsageError(f"{flag}: needs a value")
        if name == "config":
            configs += given
        else:
            values[name] = values.get(name, []) + given if takes_many else given
    return configs, values


def parse(config_class: type[C], argv: Sequence[str]) -> C:
    """The dataclass filled from `--config` files and `--key value` pairs; raises UsageError with one line."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    keys = _keys(config_class)
    configs, values = _values_by_flag(argv, keys)
    merged = OmegaConf.structured(config_class)
    for path in configs:
        try:
            merged = OmegaConf.merge(merged, OmegaConf.load(path))
        except OSError as error:
            raise UsageError(f"--config {path}: {error.strerror}") from None
        except Exception as error:  # yaml and OmegaConf each have a family of their own
            raise UsageError(f"--config {path}: {str(error).splitlines()[0]}") from None
    by_name = {key.name: key for key in keys}
    for name, given in values.items():
        key = by_name[name]
        try:
            OmegaConf.update(merged, name, given if key.is_list else _scalar(key, given[0]), merge=False)
        except OmegaConfBaseException as error:
            raise UsageError(f"{key.flag} {' '.join(given)}: {str(error).splitlines()[0]}") from None
    for key in keys:
        if OmegaConf.is_missing(merged, key.name):
            raise UsageError(f"{key.shown}: required ({key.help})")
        value = OmegaConf.select(merged, key.name)
        if key.choices and value is not None:
            for item in value if key.is_list else [value]:
                if item not in key.choices:
                    raise UsageError(f"{key.flag} {item}: must be one of {', '.join(key.choices)}")
    return OmegaConf.to_object(merged)


def _scalar(key: _Key, text: str) -> str | None:
    """`none` empties an optional value; everything else is converted by OmegaConf to the declared type."""
    optional = type(None) in typing.get_args(key.type)
    return None if optional and text.lower() in ("none", "null", "") else text


def program_name() -> str:
    """How the person called it: the script that runs the stages, or this module."""
    caller = os.environ.get("CALLED_AS")
    if caller:
        return caller
    specification = sys.modules["__main__"].__spec__
    return f"python -m {specification.name}" if specification else os.path.basename(sys.argv[0])


def run(main: Callable[[C], int | None], config_class: type[C], argv: Sequence[str] | None = None) -> typing.NoReturn:
    """Parse, call `main`, and turn a UserError into one line and an exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 must not end the work
    argv = sys.argv[1:] if argv is None else argv
    module = sys.modules[main.__module__]
    description = (module.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
    try:
        if "--help" in argv or "-h" in argv:
            print(_help(program_name(), description, _keys(config_class)), flush=True)
            raise SystemExit(0)
        raise SystemExit(main(parse(config_class, argv)) or 0)
    except UserError as error:
        print(f"{program_name()}: {error}", file=sys.stderr)
        raise SystemExit(error.exit_status) from None
    except _OF_THE_USERS_FILES as error:
        print(f"{program_name()}: {error.filename}: {error.strerror}; mend that and run it again", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print(f"{program_name()}: interrupted; the same command continues", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # the reader of our output went away (`| head`)
        sys.stderr.close()
        raise SystemExit(141) from None
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        print(f"{program_name()}: {no_space(error)}", file=sys.stderr)
        raise SystemExit(1) from None
