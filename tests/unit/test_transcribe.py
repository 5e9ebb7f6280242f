from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_experiment import make_cuts, make_experiment, noise, write_audio, write_cuts

from icefall_ext.bin import transcribe
from icefall_ext.cli import parse
from icefall_ext.decode.audio import read_audio, resampled
from icefall_ext.decode.pieces import best_cut, in_pieces, usual_length
from icefall_ext.decode.timing import character_starts, joined, segments_of
from icefall_ext.encoders.spec import EncoderConfig, named_size
from icefall_ext.encoders.speech_encoder import SpeechEncoder
from icefall_ext.errors import UsageError, UserError
from icefall_ext.text.bbpe import ByteBPE
from icefall_ext.train.checkpoint import load_checkpoint, save_checkpoint
from icefall_ext.transducer.search import Hypothesis

RATE = 16000


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for script in ("hanlo", "tailo"):
        make_experiment(folder / script, script)
    return folder


@pytest.fixture
def run(models, capsys):
    """(status, standard output, standard error) of the program on the Han-Lo model, unless told otherwise."""

    def call(*argv: object, model: Path = models / "hanlo") -> tuple[int, str, str]:
        capsys.readouterr()
        options = parse(transcribe.Config, ["--exp-dir", str(model), "--device", "cpu", *map(str, argv)])
        return transcribe.main(options), *capsys.readouterr()

    return call


def texts(out: str) -> dict[str, str]:
    return {Path(path).name: text for path, text in (line.split("\t") for line in out.splitlines())}


# ---------------------------------------------------------------- programs and files


def test_one_line_for_each_file_in_their_order_the_same_alone_and_together(run, tmp_path):
    paths = [write_audio(tmp_path / f"{n}.wav", 0.5 + 0.4 * n, n) for n in (3, 1, 2)]
    status, out, err = run(*paths)
    assert (status, err) == (0, "") and list(texts(out)) == ["3.wav", "1.wav", "2.wav"]
    assert out == "".join(run(path)[1] for path in paths) == run(*paths, "--max-duration", "15")[1]
    assert all(texts(out).values())


def test_a_file_gives_the_text_that_its_cut_gives_in_a_test_set(run, models, tmp_path):
    from icefall_ext.bin import decode

    (tmp_path / "exp").mkdir()
    for name in ("epoch-1.pt", "epoch-2.pt", "lang"):
        (tmp_path / "exp" / name).symlink_to(models / "hanlo" / name)
    cuts = write_cuts(tmp_path / "cuts.jsonl", make_cuts(tmp_path / "audio"))
    argv = ["--exp-dir", str(tmp_path / "exp"), "--cuts", str(cuts), "--device", "cpu", "--timestamps"]
    decode.main(parse(decode.Config, [*argv, "--methods", "modified_beam_search"]))
    stamps = next((tmp_path / "exp" / "modified_beam_search").glob("timestamps-*")).read_text(encoding="utf-8")
    of_cuts = {f"{item['id']}.wav": " ".join(item["text"].split()) for item in map(json.loads, stamps.splitlines())}
    assert texts(run(tmp_path / "audio")[1]) == of_cuts


def test_model_that_diverged_ends_the_program_and_is_no_fault_of_a_file(run, models, tmp_path):
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "lang").symlink_to(models / "hanlo" / "lang")
    content = load_checkpoint(models / "hanlo" / "epoch-1.pt")
    content["model"]["encoder.backbone.encoder.layer_norm.bias"].fill_(float("nan"))
    save_checkpoint(tmp_path / "exp" / "epoch-1.pt", content)
    paths = [write_audio(tmp_path / f"{n}.wav", 8.0, n) for n in range(3)]
    with pytest.raises(UserError, match="the encoder gives NaN"):
        run(*paths, "--use-averaged-model", "false", "--max-duration", "15", model=tmp_path / "exp")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff", "A.WAV", "臺語 一.wav"])
def test_usual_formats_give_text(run, tmp_path, name):
    assert texts(run(write_audio(tmp_path / name, 1.0, 1))[1])[name]


def test_other_rates_and_channels_give_the_text_of_their_sound(run, tmp_path):
    sound = noise(2.0, 1)
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "stereo.wav", np.stack([1.5 * sound, 0.5 * sound], axis=1), RATE, subtype="FLOAT")
    assert len(set(texts(run(tmp_path / "a.wav", tmp_path / "stereo.wav")[1]).values())) == 1
    for rate in (8000, 44100, 48000):
        write_audio(tmp_path / f"{rate}.wav", 1.0, 1, rate)
    assert all(texts(run(*sorted(tmp_path.glob("*00.wav")))[1]).values())


def test_folders_are_searched_for_audio(run, tmp_path):
    for name in ("b/2.wav", "b/c/1.flac", "0.wav"):
        write_audio(tmp_path / "in" / name, 0.6, 1)
    (tmp_path / "in" / "notes.txt").write_text("no audio")
    assert list(texts(run(tmp_path / "in")[1])) == ["0.wav", "2.wav", "1.flac"]
    run(tmp_path / "in", "--out-dir", tmp_path / "out", "--format", "json")
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.json")) == [
        "0.json", "b/2.json", "b/c/1.json"]


def test_a_file_that_cannot_be_read_is_one_line_and_does_not_stop_the_others(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no ffmpeg, whatever this machine has
    good = write_audio(tmp_path / "good.wav", 1.0, 1)
    (tmp_path / "text.wav").write_text("not audio")
    (tmp_path / "video.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    soundfile.write(tmp_path / "nan.wav", np.full(40000, np.nan, dtype=np.float32), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    bad = ["none.wav", "text.wav", "video.m4a", "nan.wav", "empty.wav"]
    status, out, err = run(good, *(tmp_path / name for name in bad), good)
    lines = err.splitlines()
    assert status == 1 and len(out.splitlines()) == 2 and len(lines) == len(bad) + 1
    for name, line, said in zip(bad, lines, ["No such file", "no ffmpeg", "no ffmpeg", "NaN", "holds no audio"]):
        assert str(tmp_path / name) in line and said in line
    assert "5 of 7 files" in lines[-1]
    assert run(tmp_path / "none.wav")[0] == 1


def test_what_libsndfile_does_not_read_goes_through_ffmpeg(run, tmp_path, monkeypatch):
    write_audio(tmp_path / "a.wav", 1.5, 1)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    program = tmp_path / "ffmpeg"
    program.write_text(f"""#!{sys.executable}
import soundfile, sys
if "bad" in " ".join(sys.argv):
    sys.exit("bad: no moov atom")
samples, _ = soundfile.read({str(tmp_path / "a.wav")!r}, dtype="float32")
sys.stdout.buffer.write(samples.tobytes())
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    status, out, _ = run(tmp_path / "a.m4a", tmp_path / "a.wav")
    assert status == 0 and len(set(texts(out).values())) == 1
    (tmp_path / "bad.m4a").write_bytes(b"damaged")
    assert "cannot be read (bad: no moov atom)" in run(tmp_path / "bad.m4a")[2]


def test_the_program_ends_with_status_1_where_a_file_failed_and_still_prints_the_others(models, tmp_path):
    good = write_audio(tmp_path / "good.wav", 0.6, 1)
    command = [sys.executable, "-m", "icefall_ext.bin.transcribe", "--exp-dir", str(models / "hanlo"), str(good)]
    result = subprocess.run([*command, str(tmp_path / "none.wav")], capture_output=True, text=True)
    assert result.returncode == 1 and result.stdout.startswith(f"{good}\t")
    name = "python -m icefall_ext.bin.transcribe"
    assert result.stderr.splitlines()[0] == f"{name}: {tmp_path}/none.wav: No such file or directory"


# ---------------------------------------------------------------- formats


def test_all_formats_say_the_same(run, tmp_path):
    path, out = write_audio(tmp_path / "a.wav", 6.0, 4), tmp_path / "out"
    for kind in ("text", "json", "srt", "tsv"):
        assert run(path, "--format", kind, "--out-dir", out, "--pause", "0.2")[0] == 0
    text = (out / "a.txt").read_text(encoding="utf-8").strip()
    item = json.loads((out / "a.json").read_text(encoding="utf-8"))
    assert item["text"] == text and item["duration"] == 6.0 and len(item["segments"]) > 1
    rows = [line.split("\t") for line in (out / "a.tsv").read_text(encoding="utf-8").splitlines()]
    assert rows[0] == ["start", "end", "text"] and joined(row[2] for row in rows[1:]) == text
    blocks = (out / "a.srt").read_text(encoding="utf-8").strip().split("\n\n")
    assert [block.split("\n")[0] for block in blocks] == [str(n + 1) for n in range(len(rows) - 1)]
    clock = r"\d\d:\d\d:\d\d,\d\d\d"
    assert all(re.fullmatch(f"{clock} --> {clock}", block.split("\n")[1]) for block in blocks)
    times = [(segment["start"], segment["end"]) for segment in item["segments"]]
    assert all(0 <= start < end <= 6.0 for start, end in times)
    assert all(first[1] <= second[0] for first, second in pairwise(times))
    units = [unit for segment in item["segments"] for unit in segment["units"]]
    assert all(first["start"] <= second["start"] for first, second in pairwise(units))


def test_json_and_tsv_go_to_standard_output_and_srt_only_for_one_file(run, tmp_path):
    paths = [write_audio(tmp_path / f"{n}.wav", 1.0, n) for n in (1, 2)]
    assert [json.loads(line)["file"] for line in run(*paths, "--format", "json")[1].splitlines()] == [*map(str, paths)]
    assert {line.split("\t")[0] for line in run(*paths, "--format", "tsv")[1].splitlines()} == {*map(str, paths)}
    assert run(paths[0], "--format", "srt")[1].startswith("1\n00:00:0")
    with pytest.raises(UsageError, match="give --out-dir"):
        run(*paths, "--format", "srt")


def test_results_are_replaced_only_when_asked_and_two_never_share_a_name(run, tmp_path):
    path, out = write_audio(tmp_path / "a.wav", 1.0, 1), tmp_path / "out"
    out.mkdir()
    (out / "a.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"a\.txt: exists; --overwrite"):
        run(path, "--out-dir", out)
    assert (out / "a.txt").read_text() == "precious"
    assert run(path, "--out-dir", out, "--overwrite")[0] == 0 and (out / "a.txt").read_text() != "precious"
    other = write_audio(tmp_path / "a.flac", 1.0, 1)
    with pytest.raises(UsageError, match="both results would be"):
        run(path, other, "--out-dir", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UsageError, match="is a file"):
        run(path, "--out-dir", other)


@pytest.mark.parametrize("argv", [["--max-segment", "0.5"], ["--max-segment", "9", "--max-duration", "5"],
                                  ["--pause", "0"], ["--hotwords", "/none"], ["--tailo-form", "number"],
                                  ["--epoch", "9"]])
def test_wrong_options_are_errors_before_anything_is_written(run, tmp_path, argv):
    path = write_audio(tmp_path / "a.wav", 0.5, 1)
    with pytest.raises(UserError):
        run(path, *argv)


def test_tailo_is_written_in_the_notation_that_is_asked_for(run, models, tmp_path):
    paths, model = [write_audio(tmp_path / f"{n}.wav", 2.0, n) for n in range(4)], models / "tailo"
    as_is = texts(run(*paths, model=model)[1])
    assert texts(run(*paths, "--tailo-form", "number", model=model)[1]).keys() == as_is.keys()
    segment = segments_of(*said(models / "tailo", "gua2 khi3 tai5-pak4--ah4"), 0.02, 0.0, 9.0, 9.0, 9.0)[0]
    diacritic = segment.respelt(transcribe.TAILO_FORMS["diacritic"])
    assert diacritic.text == "guá khì tâi-pak--ah"
    assert [unit.text for unit in diacritic.units] == ["guá", "khì", "tâi", "pak", "ah"]
    assert segment.respelt(transcribe.TAILO_FORMS["number"]) == segment


def test_hotwords_are_used(run, tmp_path):
    words = tmp_path / "words"
    words.write_text("gâu\n", encoding="utf-8")
    path = write_audio(tmp_path / "a.wav", 2.0, 1)
    without, argv = run(path)[1], ("--hotwords", words, "--hotword-bonus", "60")
    assert "gâu" not in texts(without)["a.wav"] and "gâu" in texts(run(path, *argv)[1])["a.wav"]


# ---------------------------------------------------------------- time stamps


def said(model: Path, text: str, every: int = 10) -> tuple[ByteBPE, Hypothesis]:
    """A reading whose tokens come every so many frames."""
    bpe = ByteBPE.load(model / "lang")
    tokens = bpe.encode(text)
    return bpe, Hypothesis(tokens, [every * n for n in range(len(tokens))], 0.0)


def test_a_character_begins_with_its_first_byte(models):
    bpe, hypothesis = said(models / "hanlo", "𪜶飯 beh")
    text, starts = character_starts(bpe, hypothesis)
    assert text == "𪜶飯 beh" and len(starts) == len(text) and starts == sorted(starts)
    lengths = [len(bpe.encode(text[:n])) for n in range(1, 3)]
    assert starts[1] == 10 * lengths[0]


def test_bytes_that_make_no_character_shift_nothing(models):
    bpe, hypothesis = said(models / "hanlo", "飯食")
    broken = [token for token in hypothesis.tokens]
    stray = bpe.encode("é")[-1]
    broken.insert(1, stray)
    text, starts = character_starts(bpe, Hypothesis(broken, list(range(len(broken))), 0.0))
    assert text == bpe.decode(broken) and len(starts) == len(text)


def test_segments_part_at_pauses_and_never_within_a_word(models):
    bpe, hypothesis = said(models / "tailo", "gua2 tai5-pak4 khi3", every=50)
    text = bpe.decode(hypothesis.tokens)
    assert [s.text for s in segments_of(bpe, hypothesis, 0.02, 0.0, 99.0, pause=0.5, longest=99)] == text.split()
    assert [s.text for s in segments_of(bpe, hypothesis, 0.02, 0.0, 99.0, pause=99, longest=99)] == [text]
    late = segments_of(bpe, hypothesis, 0.02, 100.0, 199.0, pause=0.5, longest=99)
    assert late[0].start >= 100.0 and joined(s.text for s in late) == text


def test_han_characters_join_without_and_words_with_a_space():
    assert joined(["我去", "", "台北", "beh", "食", "tâi"]) == "我去台北 beh 食 tâi"


# ---------------------------------------------------------------- audio


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 47999, 48000])
def test_resampling_in_blocks_is_torchaudio_on_the_whole(rate):
    import torchaudio

    sound = noise(2.3, 5, rate)
    blocks = list(resampled(iter(np.split(sound, [100, rate + 7, 2 * rate])), rate))
    ours = np.concatenate(blocks)
    assert len(ours) == math.ceil(len(sound) * RATE / rate)
    if rate != 47999:  # whose kernels would take torchaudio three gigabytes
        theirs = torchaudio.functional.resample(torch.from_numpy(sound), rate, RATE).numpy()
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
    else:
        near = np.concatenate(list(resampled(iter([sound]), 48000)))
        np.testing.assert_allclose(ours[:4000], near[:4000], atol=0.05)


def test_pieces_hold_all_audio_and_none_is_too_long():
    sound = noise(61.3, 1)
    pieces = list(in_pieces(iter(np.array_split(sound, 61)), 15.0))
    assert np.array_equal(np.concatenate([samples for _, samples in pieces]), sound)
    assert [start for start, _ in pieces] == np.cumsum([0, *(len(s) for _, s in pieces[:-1])]).tolist()
    assert max(len(samples) for _, samples in pieces) <= 15 * RATE and len(pieces) <= 16
    assert len(list(in_pieces(iter([sound[: 15 * RATE]]), 15.0))) == 1


def test_long_audio_is_cut_in_the_middle_of_a_pause():
    sound = noise(10.0, 1)
    sound[int(4.0 * RATE) : int(5.0 * RATE)] *= 0.01
    assert best_cut(sound) / RATE == pytest.approx(4.5, abs=0.05)
    sound[int(8.0 * RATE) : int(8.4 * RATE)] = 0  # shorter, though quieter
    sound[int(1.0 * RATE) : int(2.2 * RATE)] = 0  # longer, but what is before it would be too short
    assert best_cut(sound) / RATE == pytest.approx(4.5, abs=0.05)


def test_audio_without_a_pause_is_cut_where_it_is_quietest():
    sound = noise(10.0, 1)
    sound[int(7.0 * RATE) : int(7.3 * RATE)] *= 0.5
    assert best_cut(sound) / RATE == pytest.approx(7.15, abs=0.06)
    assert 4.0 <= best_cut(np.zeros(10 * RATE, dtype=np.float32)) / RATE < 10.0
    assert 0 < best_cut(noise(1.0, 1)) < RATE


def test_pieces_are_as_long_as_what_the_model_learnt_from(run, models, tmp_path):
    assert usual_length(tmp_path) == 15.0
    exp = tmp_path / "exp"
    (exp / "data" / "train").mkdir(parents=True)
    np.save(exp / "data" / "train" / "durations.npy", np.linspace(1, 5, 101, dtype=np.float32))
    assert usual_length(exp) == pytest.approx(4.8)
    for name in ("epoch-1.pt", "epoch-2.pt", "lang"):
        (exp / name).symlink_to(models / "hanlo" / name)
    path = write_audio(tmp_path / "a.wav", 12.0, 1)
    assert run(path, model=exp)[1] == run(path, "--max-segment", "4.8")[1] != run(path)[1]


def test_an_hour_of_audio_is_read_in_little_memory(tmp_path):
    path = tmp_path / "hour.flac"
    minute = noise(60, 1)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(60):
            file.write(minute)
    tracemalloc.start()
    length = sum(len(samples) for _, samples in in_pieces(read_audio(path), 15.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert length == 3600 * RATE and peak < 30e6, "the whole is 230 MB"


def test_a_long_file_is_transcribed_as_its_pieces_are(run, tmp_path):
    path = write_audio(tmp_path / "long.wav", 50.0, 2)
    item = json.loads(run(path, "--format", "json", "--max-segment", "5", "--max-duration", "10")[1])
    starts = [segment["start"] for segment in item["segments"]]
    assert item["duration"] == 50.0 and starts == sorted(starts) and 40 < starts[-1] < 50
    sound = noise(50.0, 2)
    for number, (_, samples) in enumerate(in_pieces(iter([sound]), 5.0)):
        soundfile.write(tmp_path / f"{number:02}.wav", samples, RATE, subtype="FLOAT")
    pieces = texts(run(*sorted(tmp_path.glob("??.wav")))[1])
    assert joined(pieces.values()) == item["text"]


def test_a_file_damaged_in_the_middle_is_an_error(tmp_path):
    path = write_audio(tmp_path / "a.flac", 20.0, 1)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = os.urandom(len(content) - len(content) // 2)
    path.write_bytes(content)
    try:
        seconds = sum(map(len, read_audio(path))) / RATE
    except UserError as error:
        assert "damaged after" in str(error)
    else:
        assert seconds < 20.5  # libsndfile took what it could


# ---------------------------------------------------------------- models of icefall


def foreign(models: Path, folder: Path, encoder_names) -> Path:
    """The Han-Lo model as another program saves it: without `system`, and with the encoder under other names."""
    (folder / "lang").parent.mkdir(parents=True)
    (folder / "lang").symlink_to(models / "hanlo" / "lang")
    content = load_checkpoint(models / "hanlo" / "epoch-1.pt")
    renamed = {encoder_names(name): value for name, value in content["model"].items()}
    save_checkpoint(folder / "epoch-1.pt", {"model": renamed, "model_avg": renamed, "batch_idx_train": 10})
    return folder


CONFIG = "script: hanlo\narchitecture: tiny-mel\nmodel: {predictor_dim: 32, joiner_dim: 32}\n"


@pytest.mark.parametrize(
    ("beginning", "rename"),
    [("encoder.backbone.", ""), ("encoder.", ""), ("encoder.hubert.", ""),
     ("speech.model.", "rename: {speech.model.: encoder.backbone.}\n"), ("module.encoder.", "")],
)
def test_checkpoint_of_icefall_needs_a_description_and_gives_the_same_text(run, models, tmp_path, beginning, rename):
    model = foreign(models, tmp_path / "icefall", lambda name: name.replace("encoder.backbone.", beginning, 1))
    path = write_audio(tmp_path / "a.wav", 2.0, 1)
    (tmp_path / "model.yaml").write_text(CONFIG + rename)
    argv = (path, "--use-averaged-model", "false", "--epoch", "1")
    assert run(*argv, "--model-config", tmp_path / "model.yaml", model=model)[1] == run(*argv)[1]
    with pytest.raises(UserError, match="does not say which model it is"):
        run(*argv, model=model)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("script: hanlo\n", "needs `script: hanlo`"),
        ("scrip: hanlo\n", "scrip: it takes architecture"),
        (CONFIG.replace("tiny-mel", "tiny"), "does not fit this model"),
        (CONFIG.replace("tiny-mel", "huge"), "random:huge: no such size"),
        (CONFIG.replace("joiner_dim", "joiner_width"), "joiner_width"),
        (CONFIG.replace("tiny-mel", "{model_type: hubert}"), "normalize"),
        ("[", "not a yaml file"),
    ],
)
def test_description_that_does_not_fit_says_what_is_wrong(run, models, tmp_path, content, expected):
    model = foreign(models, tmp_path / "icefall", str)
    (tmp_path / "model.yaml").write_text(content)
    with pytest.raises(UserError, match=expected):
        run(write_audio(tmp_path / "a.wav", 0.5, 1), "--model-config", tmp_path / "model.yaml", model=model)


def test_fairseq_names_of_an_encoder_are_known():
    from icefall_ext.decode.restoring import our_names

    encoder = SpeechEncoder(named_size("tiny"), EncoderConfig(source="random:tiny"))
    ours = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    as_fairseq = {}
    for name, value in ours.items():
        bare = name.removeprefix("encoder.backbone.")
        for pattern, target in (
            (r"feature_projection\.layer_norm\.", "layer_norm."),
            (r"feature_projection\.projection\.", "post_extract_proj."),
            (r"conv_layers\.(\d)\.conv\.", r"conv_layers.\1.0."),
            (r"conv_layers\.(\d)\.layer_norm\.", r"conv_layers.\1.2."),
            (r"pos_conv_embed\.conv\.", "pos_conv.0."),
            (r"(layers\.\d)\.layer_norm\.", r"\1.self_attn_layer_norm."),
            (r"(layers\.\d)\.attention\.", r"\1.self_attn."),
            (r"(layers\.\d)\.feed_forward\.intermediate_dense\.", r"\1.fc1."),
            (r"(layers\.\d)\.feed_forward\.output_dense\.", r"\1.fc2."),
            (r"^masked_spec_embed$", "mask_emb"),
        ):
            bare = re.sub(pattern, target, bare)
        as_fairseq[f"encoder.{bare}"] = value
    as_fairseq["encoder.final_proj.weight"] = torch.zeros(2)
    read = our_names(as_fairseq, {})
    assert read.keys() == ours.keys() and all(torch.equal(read[name], ours[name]) for name in ours)
