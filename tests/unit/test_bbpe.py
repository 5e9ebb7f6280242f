"""Byte-level BPE: what survives the round trip, what a model may emit, what training refuses, and what it writes."""

import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from icefall_ext.bin import train_bbpe
from icefall_ext.cli import run
from icefall_ext.errors import UsageError, UserError
from icefall_ext.text import bbpe as bbpe_module
from icefall_ext.text import byte_glyphs, hanlo
from icefall_ext.text.bbpe import ByteBPE

ROOT = str(Path(__file__).parents[2])
HAN = "今仔日天氣真好食飽未我欲去台北數字人客來坐這馬的是毋無有大細漢阿母爸哥姊"
SYLLABLES = "tsi̍t ê gín á lâng tī tshù lāi tsia̍h pn̄g sò͘ jī guá beh khì tâi pak kha tshiú bīn âng hit".split()


def sentences(script: str, count: int = 600) -> list[str]:
    rng = random.Random(script)
    if script == "hanlo":
        return ["".join(rng.choices(HAN, k=rng.randint(3, 12))) for _ in range(count)]
    words = [rng.choice([" ", "-", "--"]).join(rng.choices(SYLLABLES, k=2)) for _ in range(200)]
    return [" ".join(rng.choices(words, k=rng.randint(1, 5))) for _ in range(count)]


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bbpe")


@pytest.fixture(scope="module")
def tailo(folder) -> ByteBPE:
    return ByteBPE.train(write_lines(folder / "train.tailo", sentences("tailo")), 300, folder / "lang_tailo")


@pytest.fixture(scope="module")
def han(folder) -> ByteBPE:
    return ByteBPE.train(write_lines(folder / "train.hanlo", sentences("hanlo")), 290, folder / "lang_hanlo")


@pytest.fixture(params=["tailo", "han"])
def bpe(request) -> ByteBPE:
    return request.getfixturevalue(request.param)


blocks = [
    "<blk>",
    "<unk>",
    "<sos/eos>",
    "▁",
    "\u2047",
    " ",
    "  ",
    "\n",
    "\t",
    "\x00",
    "\ue701",
    "\U000308fb",
    "😀",
    "\u030d",
]
any_text = st.one_of(st.text(), st.lists(st.one_of(st.text(max_size=2), st.sampled_from(blocks))).map("".join))


@given(text=any_text)
def test_any_string_survives_encoding_and_decoding_exactly(tailo, han, text):
    for bpe in (tailo, han):
        ids = bpe.encode(text)
        assert bpe.decode(ids) == text
        assert all(bpe.unk_id < i < bpe.vocab_size for i in ids)


@given(text=any_text)
def test_normalised_text_survives_too(han, text):
    normal = hanlo.normalize(text.encode("utf-8", "ignore").decode())
    assert han.decode(han.encode(normal)) == normal


def test_bytes_that_training_never_saw_are_not_unknown(bpe):
    unseen = "".join(chr(code) for code in (*range(0x20, 0x300), 0xFFFF, 0x10FFFF))
    assert bpe.unk_id not in bpe.encode(unseen)
    assert set(byte_glyphs.GLYPHS) - {" "} | {"▁"} <= set(bpe.pieces)


def test_case_is_kept(bpe):
    assert bpe.decode(bpe.encode("Tâi-pak tâi-pak TÂI-PAK")) == "Tâi-pak tâi-pak TÂI-PAK"


@pytest.mark.parametrize("character", ["今", "𪜶", "\U000308fb", "\ue701", "ㄅ"])
def test_every_plane_is_cut_at_its_characters(folder, character):
    text = write_lines(folder / "planes.txt", [f"{character}{other}" for other in HAN] * 4)
    bpe = ByteBPE.train(text, 261 + 20, folder / "lang_planes")
    glyphs = byte_glyphs.encode(character)
    assert glyphs in bpe.pieces
    assert [piece for piece in bpe.pieces if glyphs in piece] == [glyphs]


def test_no_token_holds_parts_of_two_han_characters(han):
    spelled = [byte_glyphs.encode(character) for character in HAN]
    long = [piece for piece in han.pieces[3:] if len(piece) > 1]
    assert len(long) > 20
    assert all(any(piece in glyphs for glyphs in spelled) for piece in long)


def test_a_han_character_has_the_same_tokens_wherever_it_stands(han):
    alone = han.encode("今")[1:]
    assert [han.pieces[i] for i in han.encode("今")][0] == "▁"
    for text in ("今日", "日今", "beh 今", "今 beh"):
        ids = han.encode(text)
        assert any(ids[start : start + len(alone)] == alone for start in range(len(ids)))


def test_no_token_holds_more_than_one_syllable(tailo):
    assert any(len(piece.lstrip("▁")) > 2 for piece in tailo.pieces[3:])
    for piece in tailo.pieces[3:]:
        assert not set("-▁") & set(piece[1:]) or set(piece) == {"-"}


def test_a_tone_digit_is_a_token_of_its_own(folder):
    lines = [f"tsit{tone}-ban{tone} kau{tone}" for tone in range(1, 10)] * 9
    bpe = ByteBPE.train(write_lines(folder / "train.number", lines), 271, folder / "lang_number")
    tokens = [bpe.pieces[i] for i in bpe.encode("tsit8-ban7 kau2")]
    assert tokens == ["▁tsit", "8-", "ban", "7", "▁kau", "2"]


def test_a_special_symbol_written_in_a_text_is_not_the_symbol(bpe):
    ids = bpe.encode("a<blk>b<sos/eos><unk>")
    assert not set(ids) & {bpe.blank_id, bpe.sos_eos_id, bpe.unk_id}


def test_special_symbols_have_the_ids_of_icefall(bpe):
    assert (bpe.blank_id, bpe.sos_eos_id, bpe.unk_id) == (0, 1, 2)
    assert bpe.pieces[:3] == ["<blk>", "<sos/eos>", "<unk>"]


def test_special_symbols_decode_to_nothing_and_unknown_to_a_space(bpe):
    one = bpe.encode("a")
    assert bpe.decode([bpe.blank_id, *one, bpe.sos_eos_id]) == "a"
    assert bpe.decode([*one, bpe.unk_id, *one[1:]]) == "a a"


def test_a_lone_space_token_decodes_to_nothing(bpe):
    assert bpe.decode([bpe.pieces.index("▁")]) == ""
    assert bpe.decode([]) == ""


@given(data=st.data())
def test_any_sequence_of_tokens_decodes_to_text_that_utf_8_can_hold(han, data):
    ids = data.draw(st.lists(st.integers(0, han.vocab_size - 1)))
    text = han.decode(ids)
    assert han.decode(han.encode(text)) == text


def test_a_broken_character_costs_itself_alone(han):
    ids = han.encode("我去")
    lead = han.pieces.index(byte_glyphs.GLYPHS["今".encode()[0]])
    assert han.decode([*ids[:2], lead, *ids[2:], lead]) == "我去"


@pytest.mark.parametrize("wrong", [-1, 10_000])
def test_an_id_outside_the_vocabulary_is_an_error(bpe, wrong):
    with pytest.raises(ValueError, match=f"token id {wrong} is not in 0..{bpe.vocab_size - 1}"):
        bpe.decode([5, wrong])


def test_a_lone_surrogate_is_one_clear_line(bpe):
    with pytest.raises(UserError, match="lone surrogate"):
        bpe.encode("a\udc00")


def test_what_icefall_does_with_the_same_model_gives_the_same_text(folder, tailo):
    """icefall decodes with sentencepiece first, then maps glyphs to bytes."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "lang_tailo" / "bbpe.model"))
    for text in ("我 beh 去 tâi-pak", "tsi̍t-ê  gín-á", " 今"):
        ids = processor.encode(byte_glyphs.encode(text))
        assert ids == tailo.encode(text)
        assert byte_glyphs.decode(processor.decode(ids)) == tailo.decode(ids) == text


def test_the_folder_is_laid_out_as_in_icefall(folder, tailo):
    lang = folder / "lang_tailo"
    assert sorted(path.name for path in lang.iterdir()) == [
        "bbpe.model",
        "tokens.txt",
        "unigram_300.model",
        "words.txt",
    ]
    assert (lang / "bbpe.model").read_bytes() == (lang / "unigram_300.model").read_bytes()
    tokens = (lang / "tokens.txt").read_text("utf-8").splitlines()
    assert tokens == [f"{piece} {i}" for i, piece in enumerate(tailo.pieces)]
    words = [line.split(" ")[0] for line in (lang / "words.txt").read_text("utf-8").splitlines()]
    spoken = {word for line in sentences("tailo") for word in line.split()}
    assert words == ["<eps>", "<UNK>", *sorted(spoken), "#0", "<s>", "</s>"]


@pytest.mark.k2
def test_k2_reads_both_symbol_tables(folder, tailo):
    import k2

    table = k2.SymbolTable.from_file(folder / "lang_tailo" / "tokens.txt")
    assert [table[i] for i in range(300)] == tailo.pieces
    assert k2.SymbolTable.from_file(folder / "lang_tailo" / "words.txt")["<eps>"] == 0


def test_loading_and_pickling_give_the_same_tokenizer(folder, tailo):
    for other in (ByteBPE.load(folder / "lang_tailo"), pickle.loads(pickle.dumps(tailo))):
        assert other.pieces == tailo.pieces
        assert other.encode("tsi̍t-ê 人") == tailo.encode("tsi̍t-ê 人")


def test_the_same_lines_give_the_same_bytes_whatever_their_order_the_threads_and_hash_seed(folder, tailo):
    expected = {path.name: path.read_bytes() for path in (folder / "lang_tailo").iterdir()}
    program = "from icefall_ext.text.bbpe import ByteBPE; ByteBPE.train('reversed', 300, 'again')"
    write_lines(folder / "reversed", sentences("tailo")[::-1])
    for threads in ("1", "3"):
        environment = os.environ | {"OMP_NUM_THREADS": threads, "PYTHONHASHSEED": threads, "PYTHONPATH": ROOT}
        subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, check=True)
        assert {path.name: path.read_bytes() for path in (folder / "again").iterdir()} == expected


def test_long_lines_are_learned_from_and_blank_ones_are_not(folder):
    text = write_lines(folder / "long.txt", ["", "  ", "".join(sentences("hanlo", 2_000)), ""])
    bpe = ByteBPE.train(text, 290, folder / "lang_long")
    assert sum(len(piece) > 1 for piece in bpe.pieces[3:]) > 20


def test_several_files_are_learned_from_together(folder, tailo, han):
    bpe = ByteBPE.train([folder / "train.tailo", folder / "train.hanlo"], 320, folder / "lang_both")
    assert byte_glyphs.encode("今") in bpe.pieces
    assert "▁gu" + byte_glyphs.encode("á") in bpe.pieces


def test_a_vocabulary_too_small_for_the_bytes_is_refused(folder):
    with pytest.raises(UsageError, match=r"^--vocab-size 260: .* at least 261 "):
        ByteBPE.train(folder / "no such file", 260, folder / "lang_small")


def test_a_vocabulary_too_large_for_the_text_is_refused_with_the_largest_possible(folder, han):
    with pytest.raises(UsageError, match=r"^--vocab-size 5000: too many for the text in .*train\.hanlo;") as refusal:
        ByteBPE.train(folder / "train.hanlo", 5000, folder / "lang_limit")
    largest = int(str(refusal.value).rsplit(" ", 1)[1])
    assert ByteBPE.train(folder / "train.hanlo", largest, folder / "lang_limit").vocab_size == largest
    with pytest.raises(UsageError, match=f"is {largest}$"):
        ByteBPE.train(folder / "train.hanlo", largest + 1, folder / "lang_limit")


def test_too_little_text_is_said_to_be_too_little(folder):
    with pytest.raises(UsageError, match="more text is needed"):
        ByteBPE.train(write_lines(folder / "little.txt", ["我"]), 300, folder / "lang_little")
    with pytest.raises(UserError, match=r"blank\.txt: no text in it"):
        ByteBPE.train(write_lines(folder / "blank.txt", ["", "  "]), 300, folder / "lang_little")
    assert not (folder / "lang_little").exists()


def test_a_folder_with_other_files_is_not_replaced(folder):
    (folder / "busy").mkdir()
    write_lines(folder / "busy" / "notes.txt", ["keep me"])
    with pytest.raises(UsageError, match=r"busy: holds other files \(notes.txt\)"):
        ByteBPE.train(folder / "train.tailo", 300, folder / "busy")
    with pytest.raises(UsageError, match="is a file; name a folder"):
        ByteBPE.train(folder / "train.tailo", 300, folder / "busy" / "notes.txt")
    assert (folder / "busy" / "notes.txt").read_text() == "keep me\n"


def test_training_again_replaces_the_whole_folder(folder, tailo):
    for size in (290, 300):
        ByteBPE.train(folder / "train.tailo", size, folder / "lang_again")
    assert sorted(path.name for path in (folder / "lang_again").glob("unigram*")) == ["unigram_300.model"]


def test_an_interrupted_training_leaves_the_old_folder_whole(folder, tailo, monkeypatch):
    ByteBPE.train(folder / "train.tailo", 290, folder / "lang_cut")

    def killed(path, symbols):
        raise KeyboardInterrupt

    monkeypatch.setattr(bbpe_module, "_write_symbols", killed)
    with pytest.raises(KeyboardInterrupt):
        ByteBPE.train(folder / "train.tailo", 300, folder / "lang_cut")
    assert ByteBPE.load(folder / "lang_cut").vocab_size == 290


def test_a_folder_without_a_usable_model_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match=r"bbpe\.model: no such file; train it first"):
        ByteBPE.load(tmp_path)
    for content in (b"", b"version https://git-lfs"):
        (tmp_path / "bbpe.model").write_bytes(content)
        with pytest.raises(UserError, match="not a sentencepiece model"):
            ByteBPE.load(tmp_path)


def test_a_model_with_other_special_symbols_is_refused(folder, tailo, tmp_path):
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "train.tailo"), model_prefix=str(tmp_path / "bbpe"), vocab_size=60, minloglevel=3
    )
    with pytest.raises(UserError, match=r"tokens 0, 1, 2 are <unk>, <s>, </s>, not <blk>, <sos/eos>, <unk>"):
        ByteBPE.load(tmp_path)


def test_text_that_a_foreign_model_cannot_spell_is_an_error_and_not_unknown(folder, tailo, tmp_path):
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "train.tailo"),
        model_prefix=str(tmp_path / "bbpe"),
        vocab_size=60,
        user_defined_symbols=["<blk>", "<sos/eos>"],
        unk_id=2,
        bos_id=-1,
        eos_id=-1,
        minloglevel=3,
    )
    bpe = ByteBPE.load(tmp_path)
    assert bpe.decode(bpe.encode("kha")) == "kha"
    with pytest.raises(UserError, match="'今': the BPE model has no token for some byte of it"):
        bpe.encode("今")


def program(*arguments) -> int:
    with pytest.raises(SystemExit) as end:
        run(train_bbpe.main, train_bbpe.Config, [str(argument) for argument in arguments])
    return end.value.code


def test_the_program_says_what_it_reads_and_writes(folder, tailo, capfd):
    assert program("--text", folder / "train.tailo", "--vocab-size", 300, "--lang-dir", folder / "lang_program") == 0
    out, err = capfd.readouterr()
    reads, wrote = out.splitlines()
    assert reads.endswith("train.tailo (600 lines)")
    assert "lang_program (300 tokens, " in wrote and wrote.endswith(" tokens/syllable)")
    assert 1 <= float(wrote.split("tokens, ")[1].split()[0]) <= 4
    assert err == ""  # not a word from sentencepiece


@pytest.mark.parametrize(
    ("options", "status", "line"),
    [
        (["--vocab-size", "200"], 2, "--vocab-size 200: byte-level BPE needs at least 261"),
        (["--vocab-size", "5000"], 2, "the most it supports is "),
        (["--text", "nowhere.txt"], 1, "nowhere.txt: no such file"),
        (["--text", "big5.txt"], 1, "big5.txt: not UTF-8"),
    ],
)
def test_the_program_ends_with_one_line_on_wrong_input(folder, tailo, capfd, monkeypatch, options, status, line):
    monkeypatch.chdir(folder)
    (folder / "big5.txt").write_bytes("今仔日".encode("big5"))
    assert program("--text", "train.tailo", "--lang-dir", "lang_wrong", *options) == status
    err = capfd.readouterr().err
    assert line in err and err.count("\n") == 1
    assert not (folder / "lang_wrong").exists()
