from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from icefall_ext.cli import group, option, parse, positional, required
from icefall_ext.errors import UsageError


@dataclass
class Inner:
    lr: float = option(0.1, "learning rate")


@dataclass
class Config:
    text: list[str] = required("text files")
    vocab_size: int = option(500, "tokens")
    form: str = option("number", "how tones are written", choices=("number", "diacritic"))
    shuffle: bool = option(False, "shuffle")
    folder: Path = option(Path("."), "a folder")
    limit: int | None = option(None, "at most so many")
    train: Inner = group(Inner, "training")


def config(*argv: str) -> Config:
    return parse(Config, ["--text", "a", *argv])


def message_of(*argv: str) -> str:
    with pytest.raises(UsageError) as error:
        parse(Config, argv)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_value_after_a_space_an_equals_sign_and_with_underscores_are_the_same():
    assert config("--vocab-size", "300") == config("--vocab-size=300") == config("--vocab_size", "300")


def test_booleans_parse_as_booleans():
    assert config("--shuffle", "False").shuffle is False
    assert config("--shuffle", "true").shuffle is True
    assert config("--shuffle").shuffle is True
    assert "maybe" in message_of("--text", "a", "--shuffle", "maybe")


def test_list_takes_all_values_up_to_the_next_option():
    assert parse(Config, ["--text", "a", "b", "--shuffle"]).text == ["a", "b"]


def test_types_are_those_of_the_dataclass():
    cfg = config("--folder", "x/y", "--limit", "7", "--train.lr", "1e-3")
    assert (cfg.folder, cfg.limit, cfg.train.lr) == (Path("x/y"), 7, 1e-3)
    assert config("--limit", "none").limit is None


def test_defaults_are_not_shared_between_configurations():
    first = config()
    first.train.lr = 7
    assert config().train.lr == 0.1


def test_yaml_file_comes_before_the_command_line(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("vocab_size: 300\ntrain:\n  lr: 0.5\n")
    cfg = config("--config", str(path), "--vocab-size", "400")
    assert (cfg.vocab_size, cfg.train.lr) == (400, 0.5)


def test_unknown_key_in_yaml_is_an_error_that_names_file_and_key(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("vocabsize: 300\n")
    message = message_of("--text", "a", "--config", str(path))
    assert str(path) in message and "vocabsize" in message


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--text", "a", "--vocab-sise", "3"], "did you mean --vocab-size"),
        (["--text", "a", "--vocab-size", "many"], "--vocab-size many"),
        (["--text", "a", "--vocab-size"], "--vocab-size: needs a value"),
        (["--text", "a", "--form", "ipa"], "--form ipa: must be one of number, diacritic"),
        (["a"], "a: not an option"),
        ([], "--text: required"),
        (["--text", "a", "--config", "/no/such.yaml"], "--config /no/such.yaml"),
    ],
)
def test_wrong_command_line_is_one_line_that_names_option_and_value(argv, expected):
    assert expected in message_of(*argv)


@dataclass
class WithFiles:
    files: list[str] = positional("audio files", "FILE")
    methods: list[str] = option([], "methods")
    beam: int = option(4, "beam")
    strict: bool = option(False, "strict")


@pytest.mark.parametrize(
    ("argv", "files"),
    [
        (["a.wav", "b.wav"], ["a.wav", "b.wav"]),
        (["a.wav", "--beam", "2", "b.wav"], ["a.wav", "b.wav"]),
        (["--beam=2", "-.wav"], ["-.wav"]),
        (["--strict", "a.wav"], ["a.wav"]),
        (["--strict", "false", "a.wav"], ["a.wav"]),
        (["--methods", "x", "y", "--", "a.wav", "--b.wav"], ["a.wav", "--b.wav"]),
        (["a.wav", "--methods", "x"], ["a.wav"]),
    ],
)
def test_words_that_belong_to_no_option_are_positional_values(argv, files):
    assert parse(WithFiles, argv).files == files


def test_switch_before_a_file_is_on_and_takes_only_a_truth_value():
    assert parse(WithFiles, ["--strict", "a.wav"]).strict is True
    assert parse(WithFiles, ["--strict", "no", "a.wav"]).strict is False


@pytest.mark.parametrize(
    ("argv", "expected"),
    [(["--beam", "2"], "FILE...: required"), (["a.wav", "--bean", "2"], "did you mean --beam"),
     (["a.wav", "--beam"], "--beam: needs a value")],
)
def test_positional_values_leave_the_other_errors_as_they_are(argv, expected):
    with pytest.raises(UsageError, match=expected):
        parse(WithFiles, argv)


def test_program_exits_2_with_one_line_on_wrong_usage_and_0_on_help():
    program = [sys.executable, "-m", "icefall_ext.bin.doctor"]
    wrong = subprocess.run([*program, "--nope", "1"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert "python -m icefall_ext.bin.doctor: --nope: unknown option" in wrong.stderr
    helped = subprocess.run([*program, "--help"], capture_output=True, text=True)
    assert helped.returncode == 0 and "--disk" in helped.stdout


def test_help_shows_defaults_as_they_are_typed():
    program = [sys.executable, "-m", "icefall_ext.bin.prepare_cuts", "--help"]
    shown = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    for expected in ("(required)", "(default train dev test)", "(default false)", "into the training cuts\n"):
        assert expected in shown


def test_folder_that_cannot_be_used_is_one_line_and_not_a_traceback(tmp_path):
    (tmp_path / "manifests").write_text("a file")
    program = [sys.executable, "-m", "icefall_ext.bin.prepare_text", "--corpus", "x", "--data-dir", str(tmp_path)]
    result = subprocess.run(program, capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert f"{tmp_path}/manifests/x_supervisions_train.jsonl.gz: Not a directory" in result.stderr


def test_output_to_a_terminal_of_another_encoding_is_escaped(tmp_path):
    folder = tmp_path / "臺語"
    folder.mkdir()
    (folder / "words.txt").write_text("我欲去台北\n" * 9, encoding="utf-8")
    program = [sys.executable, "-m", "icefall_ext.bin.train_bbpe", "--text", str(folder / "words.txt")]
    result = subprocess.run(
        [*program, "--lang-dir", str(folder / "lang"), "--vocab-size", "5000"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "\\u81fa\\u8a9e" in result.stdout and "too many for the text" in result.stderr
