from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_experiment import TEXTS, cut, make_cuts, make_experiment, write_audio, write_cuts

from icefall_ext.bin import decode
from icefall_ext.bin import score as score_program
from icefall_ext.cli import parse
from icefall_ext.decode.options import sweep
from icefall_ext.decode.searches import inside_a_text, read_hotwords
from icefall_ext.errors import UsageError, UserError
from icefall_ext.score.icefall_files import Recog, read_recogs
from icefall_ext.text.bbpe import ByteBPE
from icefall_ext.train.checkpoint import load_checkpoint, save_checkpoint

METHODS = ("greedy_search", "modified_beam_search", "fast_beam_search")


@dataclass
class Case:
    exp: Path
    cuts: Path
    items: list[dict]

    def run(self, *argv: str) -> None:
        where = [] if "--exp-dir" in argv else ["--exp-dir", str(self.exp)]
        what = [] if "--cuts" in argv else ["--cuts", str(self.cuts)]
        decode.main(parse(decode.Config, [*where, *what, "--device", "cpu", "--search-backend", "torch", *argv]))

    def recogs(self, method: str = "greedy_search") -> dict[str, list[Recog]]:
        return {path.name: list(read_recogs(path)) for path in sorted((self.exp / method).glob("recogs-*"))}

    def only(self, method: str = "greedy_search") -> dict[str, list[str]]:
        (recogs,) = self.recogs(method).values()
        return {recog.id: recog.hyp for recog in recogs}

    def decoding(self, method: str = "greedy_search") -> dict:
        (path,) = (self.exp / method).glob("decoding-*.json")
        return json.loads(path.read_text(encoding="utf-8"))

    def message(self, *argv: str, kind: type[UserError] = UserError) -> str:
        before = sorted(self.exp.rglob("*"))
        with pytest.raises(kind) as error:
            self.run(*argv)
        files = [path for path in self.exp.rglob("*") if path.is_file()]
        assert [path for path in files if path not in before] == [], "a failed run leaves no results"
        return str(error.value)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("decode")
    for script in ("hanlo", "tailo"):
        make_experiment(folder / script, script)
    return folder


@pytest.fixture
def case(made, tmp_path) -> Case:
    return case_of(made / "hanlo", tmp_path)


def case_of(model: Path, folder: Path) -> Case:
    exp = folder / "exp"
    exp.mkdir()
    for path in (*model.glob("*.pt"), model / "lang"):
        (exp / path.name).symlink_to(path)
    items = make_cuts(folder / "audio")
    return Case(exp, write_cuts(folder / "cuts.jsonl", items), items)


# ---------------------------------------------------------------- results


def test_every_method_writes_recogs_with_all_utterances_and_their_references(case):
    case.run("--part", "dev")
    for method in METHODS:
        ((name, recogs),) = case.recogs(method).items()
        assert name.startswith(f"recogs-dev-{method}-epoch-2-avg-1") and name.endswith("-use-averaged-model.txt")
        assert [recog.id for recog in recogs] == ["u0", "u1", "u2", "u3"]
        assert recogs[1].ref == ["你", "beh", "去", "佗", "位"]
        assert all(recog.hyp for recog in recogs)


def test_names_are_those_of_icefall(case):
    case.run("--use-averaged-model", "false", "--epoch", "1")
    assert list(case.recogs()) == ["recogs-test-greedy_search-epoch-1-avg-1.txt"]
    assert list(case.recogs("modified_beam_search")) == [
        "recogs-test-modified_beam_search-epoch-1-avg-1-beam-size-4.txt"
    ]
    case.run("--methods", "fast_beam_search")
    assert list(case.recogs("fast_beam_search"))[1:] == [
        "recogs-test-fast_beam_search-epoch-2-avg-1-beam-20.0-max-contexts-8-max-states-64-use-averaged-model.txt"
    ]


@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
def test_an_utterance_is_decoded_alike_alone_and_in_a_batch(made, tmp_path, predictor):
    model = made / "hanlo" if predictor == "stateless" else make_experiment(tmp_path / "model", predictor="lstm")
    case = case_of(model, tmp_path)
    methods = METHODS if predictor == "stateless" else METHODS[:2]
    case.run("--methods", *methods)
    together = {method: case.only(method) for method in methods}
    case.run("--methods", *methods, "--max-duration", "0.1", "--force")
    assert together == {method: case.only(method) for method in methods}


def test_loading_processes_change_nothing(case):
    case.run("--methods", "greedy_search")
    alone = case.only()
    case.run("--methods", "greedy_search", "--workers", "2", "--force")
    assert case.only() == alone


def test_a_sweep_gives_what_separate_runs_give(case, made, tmp_path):
    options = {"--blank-penalty": ("0", "4"), "--beam-size": ("1", "3"), "--beam": ("2", "20")}
    methods = ("--methods", *METHODS)
    case.run(*methods, *(word for flag, values in options.items() for word in (flag, *values)))
    swept = {name: recogs for method in METHODS for name, recogs in case.recogs(method).items()}
    assert len(swept) == 2 + 4 + 4
    assert len({json.dumps([recog.hyp for recog in recogs]) for recogs in swept.values()}) > 4
    (tmp_path / "separate").mkdir()
    separate = case_of(made / "hanlo", tmp_path / "separate")
    for penalty in options["--blank-penalty"]:
        for size, beam in zip(options["--beam-size"], options["--beam"]):
            separate.run(*methods, "--blank-penalty", penalty, "--beam-size", size, "--beam", beam)
    assert swept == {name: recogs for method in METHODS for name, recogs in separate.recogs(method).items()}


def test_scores_can_be_computed_from_what_is_written(case):
    case.run("--methods", "greedy_search")
    recogs = next((case.exp / "greedy_search").glob("recogs-*"))
    argv = ["--script", "hanlo", "--manifest", str(case.cuts), "--recogs", str(recogs), "--resamples", "1000"]
    score_program.main(parse(score_program.Config, argv))
    scores = json.loads(next((case.exp / "greedy_search").glob("scores-*")).read_text(encoding="utf-8"))
    assert scores["systems"][0]["rates"]["cer"]["units"] == sum(len(text.replace(" ", "").replace("beh", "beh")) for
                                                               text in TEXTS["hanlo"])


def test_references_are_in_the_script_and_the_tones_that_the_model_learnt(made, tmp_path):
    case = case_of(made / "tailo", tmp_path)
    case.run("--methods", "greedy_search")
    assert next(iter(case.recogs().values()))[1].ref == ["li2", "beh4", "khi3", "to2-ui7"]
    for path in case.exp.glob("epoch-*.pt"):
        content = load_checkpoint(path)
        path.unlink()
        save_checkpoint(path, {**content, "system": {**content["system"], "tones": "surface"}})
    case.run("--methods", "greedy_search")
    assert next(iter(case.recogs().values()))[1].ref == ["li1", "beh2", "khi2", "to1-ui7"]


def test_the_record_says_how_it_was_decoded(case):
    case.run("--methods", "fast_beam_search", "--max-contexts", "4")
    record = case.decoding("fast_beam_search")
    assert record["method"] == "fast_beam_search" and record["backend"] == "torch" and record["utterances"] == 4
    options = {"beam": 20.0, "max_contexts": 4, "max_states": 64, "blank_penalty": 0.0, "temperature": 1.0}
    assert record["options"] == options
    assert record["audio_seconds"] == pytest.approx(5.3) and record["peak_memory_mb"] > 10
    expected = (record["encoder_seconds"] + record["search_seconds"]) / record["audio_seconds"]
    assert record["real_time_factor"] == pytest.approx(expected, abs=1e-3) and expected > 0
    assert record["checkpoint"] == str(case.exp / "epoch-2.pt")


def test_nbest_and_timestamps_agree_with_the_recogs(case):
    case.run("--nbest", "3", "--timestamps", "--beam-size", "6")
    assert not list((case.exp / "greedy_search").glob("nbest-*"))
    for method in METHODS[1:]:
        hypotheses = {id: "".join(tokens) for id, tokens in case.only(method).items()}
        nbest = next((case.exp / method).glob("nbest-*"))
        for item in map(json.loads, nbest.read_text(encoding="utf-8").splitlines()):
            scores = [reading["score"] for reading in item["nbest"]]
            assert 1 < len(scores) <= 3 and scores == sorted(scores, reverse=True)
            assert item["nbest"][0]["text"].replace(" ", "") == hypotheses[item["id"]]
            assert all(len(reading["tokens"]) == len(reading["seconds"]) for reading in item["nbest"])
        stamps = next((case.exp / method).glob("timestamps-*"))
        for item in map(json.loads, stamps.read_text(encoding="utf-8").splitlines()):
            assert item["seconds"] == sorted(item["seconds"])
            assert "".join(unit["text"] for unit in item["units"]) == hypotheses[item["id"]]
            assert all(unit["start"] < unit["end"] for unit in item["units"])


# ---------------------------------------------------------------- what an earlier run did


def test_results_of_the_same_inputs_are_kept_and_others_are_made_again(case, capsys):
    def kept(*argv: str) -> int:
        capsys.readouterr()
        case.run("--methods", "greedy_search", "modified_beam_search", *argv)
        return capsys.readouterr().out.count(" kept ")

    assert [kept(), kept(), kept("--force"), kept("--beam-size", "2"), kept("--nbest", "2")] == [0, 2, 0, 1, 1]
    assert kept("--nbest", "2") == 2 and list((case.exp / "modified_beam_search").glob("nbest-*beam-size-4*"))
    assert kept() == 1 and not list((case.exp / "modified_beam_search").glob("nbest-*")), "they would be another run's"
    recogs = next((case.exp / "greedy_search").glob("recogs-*"))
    whole = recogs.read_text(encoding="utf-8")
    recogs.write_text(whole[:-20], encoding="utf-8")
    assert kept() == 1 and recogs.read_text(encoding="utf-8") == whole
    write_cuts(case.cuts, case.items[:3])
    assert kept() == 0 and len(case.only()) == 3


def test_another_checkpoint_under_the_same_name_is_decoded_anew(case, capsys):
    case.run("--methods", "greedy_search", "--use-averaged-model", "false")
    before = case.only()
    content = load_checkpoint(case.exp / "epoch-2.pt")
    (case.exp / "epoch-2.pt").unlink()
    content["model"]["joiner.output_linear.bias"][0] += 4.0
    save_checkpoint(case.exp / "epoch-2.pt", content)
    case.run("--methods", "greedy_search", "--use-averaged-model", "false")
    assert " kept " not in capsys.readouterr().out and case.only() != before


# ---------------------------------------------------------------- utterances that are unlike the others


def test_an_utterance_without_reference_is_decoded_and_not_scored(case, capsys):
    write_cuts(case.cuts, [*case.items[:3], {**case.items[3], "supervisions": []}])
    case.run("--methods", "greedy_search")
    assert sorted(case.only()) == ["u0", "u1", "u2"] and "1 without a reference text" in capsys.readouterr().out
    unscored = next((case.exp / "greedy_search").glob("unscored-*")).read_text(encoding="utf-8")
    assert unscored.startswith("u3 ") and len(unscored.split()) > 1


def test_an_utterance_too_short_for_a_frame_has_an_empty_hypothesis(case, tmp_path):
    short = cut("short", write_audio(tmp_path / "short.wav", 0.02, 9), 0.02, "我")
    write_cuts(case.cuts, [*case.items, short])
    case.run()
    assert [case.only(method)["short"] for method in METHODS] == [[], [], []]
    write_cuts(case.cuts, [short])
    case.run("--methods", *METHODS)
    assert case.only() == {"short": []}


@pytest.mark.parametrize("broken", ["missing", "not audio", "NaN", "another rate"])
def test_audio_that_cannot_be_read_is_named_and_counted_and_the_others_go_on(case, tmp_path, capsys, broken):
    path = tmp_path / "bad.wav"
    if broken == "not audio":
        path.write_bytes(b"no sound here" * 99)
    elif broken == "NaN":
        soundfile.write(path, np.full(16000, np.nan, dtype=np.float32), 16000, subtype="FLOAT")
    elif broken == "another rate":
        write_audio(path, 1.0, 3, rate=8000)
    bad = cut("bad", path, 1.0, "我")
    if broken == "another rate":
        bad["recording"] |= {"sampling_rate": 8000, "num_samples": 8000}
    write_cuts(case.cuts, [*case.items, bad])
    case.run("--methods", "greedy_search")
    said = capsys.readouterr().out
    assert "left out bad: " in said and "1 of 5 utterances are left out" in said
    assert sorted(case.only()) == ["u0", "u1", "u2", "u3"]
    record = case.decoding()
    assert list(record["failed"]) == ["bad"] and record["utterances"] == 4
    if broken == "missing":  # and then mended: what lacks an utterance is not kept
        write_audio(path, 1.0, 9)
        case.run("--methods", "greedy_search", "--strict")
        assert "bad" in case.only() and not case.decoding()["failed"]
        return
    with pytest.raises(UserError, match="1 utterances could not be read, the first is bad"):
        case.run("--methods", "greedy_search", "--strict")


def test_a_test_set_without_any_audio_writes_nothing(case, tmp_path):
    write_cuts(case.cuts, [cut("bad", tmp_path / "none.wav", 1.0, "我")])
    assert "no audio of it could be read" in case.message("--methods", "greedy_search")


# ---------------------------------------------------------------- language models and hotwords


def test_hotwords_come_out_where_they_were_not_heard(case, tmp_path):
    case.run("--methods", "modified_beam_search")
    assert not any("gâu" in "".join(hyp) for hyp in case.only("modified_beam_search").values())
    words = tmp_path / "words.txt"
    words.write_text("Gâu\n", encoding="utf-8")
    case.run("--methods", "modified_beam_search", "--hotwords", str(words), "--hotword-bonus", "60")
    name, recogs = list(case.recogs("modified_beam_search").items())[1]
    assert "words-hotword-bonus-60.0" in name
    assert any("gâu" in "".join(recog.hyp) for recog in recogs)


def test_hotword_in_either_notation_and_without_the_space_of_a_beginning(made, tmp_path):
    hanlo, tailo = (ByteBPE.load(made / script / "lang") for script in ("hanlo", "tailo"))
    assert hanlo.decode(inside_a_text(hanlo, "台北")) == "台北" and hanlo.pieces[inside_a_text(hanlo, "台北")[0]] != "▁"
    words = tmp_path / "words.txt"
    words.write_text("Tâi-pak\t7\n\nkhì\n", encoding="utf-8")
    found = {tailo.decode(tokens): bonus for tokens, bonus in read_hotwords(words, tailo, "tailo").items()}
    assert found == {"tai5-pak4": 7.0, "tâi-pak": 7.0, "khi3": None, "khì": None}


def test_language_model_of_the_training_texts_is_used(case, made, tmp_path):
    bpe = ByteBPE.load(made / "hanlo" / "lang")
    lm = tmp_path / "lm.arpa"
    wanted = bpe.pieces[bpe.encode("beh")[0]]
    lm.write_text(f"\\data\\\nngram 1=2\n\n\\1-grams:\n-99 <unk>\n-0.1 {wanted}\n\n\\end\\\n", encoding="utf-8")
    case.run("--methods", "modified_beam_search", "greedy_search", "--lm", str(lm), "--lm-scale", "0", "1")
    without, fused = case.recogs("modified_beam_search").items()
    assert "lm-lm-scale-0.0" in without[0] and "lm-lm-scale-1.0" in fused[0]
    assert {token for recog in fused[1] for token in recog.hyp} <= {"beh" * n for n in range(99)}
    assert without[1] != fused[1]


# ---------------------------------------------------------------- wrong input


def test_missing_checkpoint_names_those_there_are(case, tmp_path):
    assert "epoch-7.pt: no such checkpoint; there are 1, 2" in case.message("--epoch", "7")
    assert "no checkpoint-N.pt" in case.message("--iter", "100")
    assert "no such folder" in case.message("--exp-dir", str(tmp_path / "nothing"))


def test_vocabulary_that_does_not_match_the_checkpoint(case, tmp_path):
    text = tmp_path / "text"
    text.write_text("".join(f"{line}\n" for line in TEXTS["hanlo"] * 5), encoding="utf-8")
    ByteBPE.train(text, 262, tmp_path / "lang")
    (case.exp / "lang").unlink()
    (case.exp / "lang").symlink_to(tmp_path / "lang")
    assert "262 tokens, but" in case.message()


def test_checkpoint_that_is_none(case):
    (case.exp / "epoch-2.pt").unlink()
    (case.exp / "epoch-2.pt").write_bytes(b"damaged")
    assert "epoch-2.pt: not a checkpoint that can be read safely" in case.message()


def test_model_that_diverged_is_an_error_and_not_an_empty_text(case):
    content = load_checkpoint(case.exp / "epoch-2.pt")
    (case.exp / "epoch-2.pt").unlink()
    content["model_avg"]["encoder.backbone.encoder.layers.0.layer_norm.weight"].fill_(float("nan"))
    content["model"] = {name: value.float() for name, value in content["model_avg"].items()}
    save_checkpoint(case.exp / "epoch-2.pt", content)
    assert "the encoder gives NaN or infinity" in case.message("--use-averaged-model", "false")


def test_empty_test_set_or_one_in_the_other_script(case, tmp_path):
    empty = write_cuts(tmp_path / "empty.jsonl", [])
    assert "no utterance in it" in case.message("--cuts", str(empty))
    write_cuts(case.cuts, [{**item, "supervisions": [{"id": item["id"], "text": ""}]} for item in case.items])
    assert "no utterance has a reference in hanlo" in case.message()
    write_cuts(case.cuts, [case.items[0], case.items[0]])
    assert "u0 occurs a second time" in case.message()
    write_cuts(case.cuts, [{**case.items[0], "id": "two words"}])
    assert "an id is one word" in case.message()
    for wrong in ('{"id": "x"}', '{"id": "x", "duration": 1.0}', '{"duration": 1.0}', "[]"):
        case.cuts.write_text(wrong + "\n", encoding="utf-8")
        assert " is not a cut; run stage 4 again" in case.message()


def test_folder_whose_name_a_file_has_fails_before_the_encoder_runs(case, monkeypatch):
    (case.exp / "fast_beam_search").write_text("a file")
    monkeypatch.setattr(decode, "decode", lambda *_: pytest.fail("it ran"))
    with pytest.raises(FileExistsError):
        case.run()
    assert (case.exp / "fast_beam_search").read_text() == "a file"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--methods", "greedy_search", "--nbest", "2"], "--nbest 2: greedy_search has one reading"),
        (["--methods", "modified_beam_search", "--nbest", "9"], "at least nbest 9"),
        (["--methods", "greedy_search", "--lm", "LM"], "none takes a language model"),
        (["--lm-scale", "0.1", "0.2"], "--lm-scale [0.1, 0.2]: has no use without --lm"),
        (["--methods", "greedy_search", "--beam", "9"], "--beam [9.0]: has no use without a method"),
        (["--lm", "/no/such.arpa"], "/no/such.arpa: no such file"),
        (["--temperature", "0"], "temperature 0.0"),
        (["--blank-penalty", "0", "nan"], "--blank-penalty [0.0, nan]: needs numbers"),
        (["--max-duration", "0"], "--max-duration 0"),
        (["--epoch", "1", "--iter", "3"], "--epoch 1, --iter 3"),
        (["--part", "a/b"], "--part a/b"),
        (["--methods", "beam"], "--methods beam: must be one of"),
        (["--device", "gpu"], "--device gpu"),
        (["--avg", "5", "--use-averaged-model", "false"], "only 2 checkpoints"),
    ],
)
def test_wrong_options_are_one_line(case, tmp_path, argv, expected):
    (tmp_path / "LM").write_text("")
    argv = [str(tmp_path / "LM") if word == "LM" else word for word in argv]
    assert expected in case.message(*argv)


def test_fast_beam_search_needs_a_stateless_predictor(tmp_path):
    case = case_of(make_experiment(tmp_path / "model", predictor="lstm"), tmp_path)
    assert "LSTM predictor" in case.message("--methods", "fast_beam_search", kind=UsageError)


def test_the_program_prints_one_line_for_an_error(case):
    command = [sys.executable, "-m", "icefall_ext.bin.decode", "--exp-dir", str(case.exp), "--cuts", str(case.cuts)]
    result = subprocess.run([*command, "--epoch", "9"], capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and "epoch-9.pt" in result.stderr


def test_a_sweep_has_each_combination_once():
    lists = {"beam_size": [2, 4, 2], "blank_penalty": [0.0, 1.0], "temperature": [1.0], "lm_scale": [0.1],
             "hotword_bonus": [1.0]}
    settings = sweep(["modified_beam_search", "modified_beam_search"], lists, {})
    assert [str(setting) for setting in settings] == [
        "modified_beam_search beam-size-2", "modified_beam_search beam-size-2 blank-penalty-1.0",
        "modified_beam_search beam-size-4", "modified_beam_search beam-size-4 blank-penalty-1.0",
    ]


# ---------------------------------------------------------------- the reference


@pytest.mark.k2
def test_k2_gives_the_hypotheses_of_the_native_search_on_the_same_checkpoint(case):
    argv = ("--methods", "fast_beam_search", "--beam", "4", "20", "--blank-penalty", "0", "3", "--nbest", "2")
    case.run(*argv)
    native = case.recogs("fast_beam_search")
    case.run(*argv, "--search-backend", "k2")
    assert case.recogs("fast_beam_search") == native and len(native) == 4
    backends = [json.loads(p.read_text())["backend"] for p in (case.exp / "fast_beam_search").glob("decoding-*")]
    assert backends == ["k2"] * 4


def test_models_averaged_over_epochs_differ_from_one_epoch(case):
    case.run("--methods", "greedy_search", "--use-averaged-model", "false", "--avg", "2")
    case.run("--methods", "greedy_search", "--avg", "1")
    case.run("--methods", "greedy_search", "--epoch", "1", "--use-averaged-model", "false")
    names = list(case.recogs())
    assert names == [f"recogs-test-greedy_search-{name}.txt" for name in (
        "epoch-1-avg-1", "epoch-2-avg-1-use-averaged-model", "epoch-2-avg-2")]
    assert torch.is_inference_mode_enabled() is False
