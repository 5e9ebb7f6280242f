from __future__ import annotations

from pathlib import Path

import pytest
from tat_tree import Tree, imported, wav_bytes, write

from icefall_ext.corpora.base import Options, Shares
from icefall_ext.corpora.registry import open_corpus
from icefall_ext.corpora.tat_layout import find_layout
from icefall_ext.errors import UserError


def error_of(folder: Path, name: str = "tat", **options) -> str:
    with pytest.raises(UserError) as caught:
        open_corpus(name, folder, Options(**options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def plant_parts(tree: Tree, *parts: str, **changes) -> None:
    for number, part in enumerate(parts):
        tree.plant(part=part, speaker=f"TS_TSM{number:04d}", **changes)


@pytest.mark.parametrize(
    "parts",
    [
        ("TAT-MOE-train", "TAT-MOE-eval", "TAT-MOE-test"),
        ("Train", "Eval", "Test"),
        ("TAT-MOE-Lavalier/Train", "TAT-MOE-Lavalier/Eval", "TAT-MOE-Lavalier/Test"),
        ("TAT-Vol1-train-master", "TAT-Vol1-dev-master", "TAT-Vol1-test-master"),
    ],
)
@pytest.mark.parametrize("wav_level", [True, False])
def test_roots_are_found_under_every_known_name(tmp_path: Path, parts: tuple[str, ...], wav_level: bool):
    tree = Tree(tmp_path / "corpus", wav_level=wav_level)
    plant_parts(tree, *parts)
    found = imported("tat", tree.root, tmp_path / "data")
    assert {part: len(made.ids()) for part, made in found.items()} == {"train": 1, "dev": 1, "test": 1}
    assert all(made.rows == [] for made in found.values())


def test_eval_is_dev(tmp_path: Path):
    tree = Tree(tmp_path / "corpus")
    plant_parts(tree, "TAT-MOE-train", "TAT-MOE-eval")
    corpus = open_corpus("tat", tree.root)
    assert corpus.parts == ("train", "dev")


@pytest.mark.parametrize(
    ("root", "keys"),
    [("TAT-MOE-test", "TAT-MOE-test-key-master"), ("TAT-Vol1-test-master", "TAT-Vol1-test-key-master")],
)
def test_labels_may_stand_in_a_tree_of_their_own(tmp_path: Path, root: str, keys: str):
    tree = Tree(tmp_path / "corpus")
    tree.plant(part=root, labels=str(tree.root / keys))
    assert not (tree.root / root / "json").exists()
    part = imported("tat", tree.root, tmp_path / "data")["test"]
    assert part.rows == [] and part.ids() == ["TS_TSM0020-0035-6.13-condenser"]
    alone = imported("tat", tree.root / root, tmp_path / "alone")["test"]
    assert alone.supervisions == part.supervisions


def test_one_part_alone_is_named_by_its_folder(tmp_path: Path):
    tree = Tree(tmp_path / "corpus")
    tree.plant(part="TAT-MOE-test")
    assert open_corpus("tat", tree.root / "TAT-MOE-test").parts == ("test",)


def test_folder_with_a_single_unnamed_microphone_takes_the_name_from_its_surroundings(tmp_path: Path):
    for part in ("Train", "Test"):
        write(tmp_path / f"TAT-MOE-Lavalier/{part}/wav/TS_{part}/0001-1.0.wav", wav_bytes())
        write(tmp_path / f"TAT-MOE-Lavalier/{part}/json/TS_{part}/0001-1.0.json", '{"漢羅台文": "字"}'.encode())
    assert find_layout(tmp_path / "TAT-MOE-Lavalier").microphones == ("lavalier",)
    assert "no such microphone; found: lavalier" in error_of(tmp_path / "TAT-MOE-Lavalier", microphones=("ios",))


def test_unnamed_microphone_is_called_what_the_person_calls_it(tmp_path: Path):
    write(tmp_path / "corpus/Train/wav/TS_TSM0020/0001-1.0.wav", wav_bytes())
    write(tmp_path / "corpus/Train/json/TS_TSM0020/0001-1.0.json", '{"漢羅台文": "字"}'.encode())
    unnamed = imported("tat", tmp_path / "corpus", tmp_path / "data")["train"]
    assert unnamed.ids() == ["TS_TSM0020-0001-1.0"]
    named = imported("tat", tmp_path / "corpus", tmp_path / "data", microphones=("ios",))["train"]
    assert named.ids() == ["TS_TSM0020-0001-1.0-ios"]


def test_the_only_microphone_is_taken_without_asking(tmp_path: Path):
    tree = Tree(tmp_path)
    tree.plant(mics=("android",))
    assert find_layout(tmp_path).microphones == ("android",)


def test_condenser_is_taken_where_there_are_several(tmp_path: Path):
    Tree(tmp_path).plant(mics=("android", "condenser"))
    assert find_layout(tmp_path).microphones == ("condenser",)


def test_several_microphones_without_a_condenser_must_be_chosen_from(tmp_path: Path):
    Tree(tmp_path).plant(mics=("android", "ios"))
    assert error_of(tmp_path) == "--mic auto: no condenser here, so name the microphone; found: android, ios"


def test_microphone_is_found_in_any_case(tmp_path: Path):
    tree = Tree(tmp_path)
    tree.plant(mics=("Condenser", "xyh-6-x"))
    assert find_layout(tmp_path, ("XYH-6-X",)).microphones == ("XYH-6-X",)
    assert find_layout(tmp_path, ("condenser",)).microphones == ("condenser",)


def test_microphone_that_one_part_lacks_is_an_error_before_work(tmp_path: Path):
    tree = Tree(tmp_path)
    tree.plant(part="TAT-MOE-train", mics=("condenser", "android"))
    tree.plant(part="TAT-MOE-test", mics=("condenser",))
    message = error_of(tmp_path, microphones=("android",))
    assert message == "TAT-MOE-test: no microphone android; found: condenser"


def test_two_copies_with_a_microphone_each_make_one_part(tmp_path: Path):
    tree = Tree(tmp_path / "corpus")
    for mic in ("lavalier", "condenser"):
        for part in ("Train", "Test"):
            tree.plant(part=f"TAT-MOE-{mic}/{part}", speaker=f"TS_{part}", mics=(mic,))
    train = imported("tat", tree.root, tmp_path / "data", microphones=("condenser", "lavalier"))["train"]
    assert sorted(train.ids()) == ["TS_Train-0035-6.13-condenser", "TS_Train-0035-6.13-lavalier"]
    assert train.rows == []


def test_corpus_without_parts_is_split_by_speaker_the_same_way_every_time(tmp_path: Path):
    tree = Tree(tmp_path / "corpus")
    for number in range(20):
        for stem in ("0001-1.0", "0001-2.0"):
            tree.plant(stem, part="", speaker=f"TS_TSM{number:04d}")
    first = imported("tat", tree.root, tmp_path / "first", shares=Shares(0.1, 0.2))
    again = imported("tat", tree.root, tmp_path / "again", shares=Shares(0.1, 0.2))
    speakers = {name: {s["speaker"] for s in part.supervisions} for name, part in first.items()}
    assert {name: len(names) for name, names in speakers.items()} == {"train": 14, "dev": 2, "test": 4}
    assert len(set.union(*speakers.values())) == 20
    assert first == again


def test_too_few_speakers_to_split_is_an_error(tmp_path: Path):
    tree = Tree(tmp_path / "corpus")
    for speaker in ("TS_TSM0020", "KH_KHF0007"):
        tree.plant(part="", speaker=speaker)
    assert error_of(tree.root).startswith("2 speakers: too few")


# -- one line when it is no such corpus


def test_missing_folder(tmp_path: Path):
    message = error_of(tmp_path / "nowhere")
    assert message.startswith(
        f"{tmp_path}/nowhere: no such folder. Expected <corpus-dir>/json/<IN>_<SPK>/*.json next to "
    )


def test_file_in_place_of_a_folder(tmp_path: Path):
    write(tmp_path / "TAT.zip", b"PK")
    assert "a file, not a folder" in error_of(tmp_path / "TAT.zip")


def test_empty_folder(tmp_path: Path):
    assert f"{tmp_path}: an empty folder. Expected" in error_of(tmp_path)


def test_other_layout_names_what_was_found(tmp_path: Path):
    write(tmp_path / "README.txt", b"")
    write(tmp_path / "audio" / "a.wav", b"")
    message = error_of(tmp_path)
    assert message.startswith(f"{tmp_path}/json: no such folder. Expected <corpus-dir>/json/")
    assert message.endswith("; found: README.txt, audio/")


def test_path_that_is_not_utf8_is_refused_before_work(tmp_path: Path):
    folder = Path(str(tmp_path / "\udcff"))
    Tree(folder).plant()
    assert error_of(folder).endswith("manifests are UTF-8, and this path is not; rename the folder")


def test_path_is_shown_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "TAT" / "README.txt", b"")
    monkeypatch.chdir(tmp_path)
    assert error_of(Path("TAT/")).startswith("TAT/json: no such folder.")


def test_audio_without_any_labels(tmp_path: Path):
    write(tmp_path / "TAT-MOE-train/condenser/wav/TS_TSM0020/0035-6.13-03.wav", wav_bytes())
    message = error_of(tmp_path)
    assert f"{tmp_path}/TAT-MOE-train/json: no such folder, and no TAT-MOE-train-key-master/json beside it." in message
    assert message.endswith("found: condenser/")


def test_labels_without_any_audio(tmp_path: Path):
    Tree(tmp_path).plant(mics=())
    message = error_of(tmp_path)
    assert message.startswith(f"{tmp_path}/TAT-MOE-train: no audio. Expected condenser/wav/<IN>_<SPK>/*.wav")


def test_labels_without_speaker_folders(tmp_path: Path):
    tree = Tree(tmp_path)
    tree.plant()
    (tmp_path / "TAT-MOE-train/json/TS_TSM0020/0035-6.13.json").rename(tmp_path / "TAT-MOE-train/json/0035-6.13.json")
    (tmp_path / "TAT-MOE-train/json/TS_TSM0020").rmdir()
    message = error_of(tmp_path)
    assert f"{tmp_path}/TAT-MOE-train/json: no labels." in message and message.endswith("found: 0035-6.13.json")


def test_corpus_and_a_part_side_by_side_are_ambiguous(tmp_path: Path):
    tree = Tree(tmp_path)
    tree.plant(part="")
    tree.plant(part="TAT-MOE-train")
    assert "both json/ and TAT-MOE-train/ in it" in error_of(tmp_path)


def test_unknown_microphone(tmp_path: Path):
    Tree(tmp_path).plant(mics=("condenser", "ios"))
    assert error_of(tmp_path, microphones=("lapel",)) == "--mic lapel: no such microphone; found: condenser, ios"


def test_nothing_is_written_when_the_layout_is_wrong(tmp_path: Path):
    write(tmp_path / "corpus/README.txt", b"")
    with pytest.raises(UserError):
        imported("tat", tmp_path / "corpus", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_mini_is_read_like_tat_under_its_own_name(tmp_path: Path):
    Tree(tmp_path / "corpus").plant()
    imported("mini", tmp_path / "corpus", tmp_path / "data")
    assert (tmp_path / "data/manifests/mini_recordings_train.jsonl.gz").exists()


def test_relative_corpus_folder_gives_absolute_audio_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Tree(tmp_path / "corpus").plant()
    monkeypatch.chdir(tmp_path)
    part = imported("tat", Path("corpus"), tmp_path / "data")["train"]
    source = part.recordings[0]["sources"][0]["source"]
    assert source == str(tmp_path / "corpus/TAT-MOE-train/condenser/wav/TS_TSM0020/0035-6.13-03.wav")
