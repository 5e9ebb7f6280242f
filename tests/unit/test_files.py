from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from icefall_ext.errors import UserError
from icefall_ext.files import (
    atomic_dir,
    atomic_path,
    open_jsonl_for_writing,
    read_jsonl,
    read_lines,
)


def test_file_that_failed_half_way_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_folder_appears_only_when_complete(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic_dir(tmp_path / "d") as temporary:
        (temporary / "x").write_text("half")
        raise ZeroDivisionError
    assert not (tmp_path / "d").exists()
    with atomic_dir(tmp_path / "d") as temporary:
        assert not list(temporary.iterdir()), "what the first attempt left behind is gone"
        (temporary / "y").write_text("whole")
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["y"]


def test_equal_lines_give_equal_compressed_bytes_whatever_the_name_and_time(tmp_path):
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        with open_jsonl_for_writing(tmp_path / name) as writer:
            writer.write({"id": "一", "n": 1})
        time.sleep(1.1)  # gzip's own time stamp counts seconds
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert list(read_jsonl(tmp_path / "a.jsonl.gz")) == [{"id": "一", "n": 1}]


def test_kill_in_the_middle_of_writing_leaves_no_file_and_the_next_run_is_undisturbed(tmp_path):
    path = tmp_path / "m.jsonl.gz"
    script = (
        "import sys, time\nfrom icefall_ext.files import open_jsonl_for_writing\n"
        f"with open_jsonl_for_writing({str(path)!r}) as writer:\n"
        "    for i in range(1000):\n        writer.write({'i': i})\n"
        "    print('half', flush=True)\n    time.sleep(float(sys.argv[1]))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, "60"], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    assert not path.exists()
    subprocess.run([sys.executable, "-c", script, "0"], check=True, capture_output=True)
    assert sum(1 for _ in read_jsonl(path)) == 1000 and os.listdir(tmp_path) == ["m.jsonl.gz"]


def test_full_disk_is_one_line_that_names_the_file(tmp_path):
    with pytest.raises(UserError, match="no space left") as error, atomic_path(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert str(tmp_path / "a") in str(error.value)


def test_reading_a_missing_or_damaged_file_names_it(tmp_path):
    with pytest.raises(UserError, match="nothing.txt: no such file"):
        list(read_lines(tmp_path / "nothing.txt"))
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n{"a"\n')
    with pytest.raises(UserError, match="x.jsonl: line 2"):
        list(read_jsonl(tmp_path / "x.jsonl"))


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-20], lambda raw: raw[:40] + b"\0" * 40 + raw[80:], lambda raw: b"no"]
)
def test_damaged_compressed_file_is_one_line_that_names_it(tmp_path, damage):
    path = tmp_path / "m.jsonl.gz"
    with open_jsonl_for_writing(path) as writer:
        for i in range(1000):
            writer.write({"i": i, "square": i * i})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="m.jsonl.gz: damaged after line"):
        list(read_jsonl(path))
