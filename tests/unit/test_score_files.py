"""icefall's result files: the format to the letter, read back as written, and one line for what is not in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icefall_ext.errors import UserError
from icefall_ext.score.alignment import Counts, align, count
from icefall_ext.score.icefall_files import (
    Recog,
    WordStats,
    read_errs,
    read_recogs,
    read_wer_summary,
    write_errs,
    write_recogs,
    write_wer_summary,
)

AWKWARD = [
    "'",
    '"',
    "[",
    "]",
    "['",
    "\\",
    "\n",
    "\r",
    "\u2028",
    "\t",
    ":\thyp=[]",
    "*",
    "->",
    "",
    " ",
    "m̄",
    "\ue701",
    "\ud800",
]
tokens = st.lists(st.sampled_from(AWKWARD) | st.text(max_size=3), max_size=4)
ids = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=6)
words = st.lists(st.sampled_from(["a", "b", "c", "*", "->", "(", "m̄", "[", "'"]), max_size=6)

ERRS = """\
%WER = 60.00
Errors: 1 insertions, 1 deletions, 1 substitutions, over 5 reference words (3 correct)
Search below for sections starting with PER-UTT DETAILS:, SUBSTITUTIONS:, DELETIONS:, INSERTIONS:, PER-WORD STATS:

PER-UTT DETAILS: corr or (ref->hyp)  
u1:\t我 (beh->欲) 去
u2:\t去 (無->*)
u3:\t(*->ah)

SUBSTITUTIONS: count ref -> hyp
1   beh -> 欲

DELETIONS: count ref
1   無

INSERTIONS: count hyp
1   ah

PER-WORD STATS: word  corr tot_errs count_in_ref count_in_hyp
無   0 1 1 0
欲   0 1 0 1
beh   0 1 1 0
ah   0 1 0 1
我   1 0 1 1
去   2 0 2 2
"""  # noqa: W291
UTTERANCES = [("u1", "我 beh 去", "我 欲 去"), ("u2", "去 無", "去"), ("u3", "", "ah")]


def aligned(utterances):
    return [(id, align(ref.split(), hyp.split())) for id, ref, hyp in utterances]


def test_errs_file_is_icefalls_to_the_letter(tmp_path):
    path = tmp_path / "errs.txt"
    assert write_errs(path, iter(aligned(UTTERANCES))) == Counts(1, 1, 1, 3)
    assert path.read_text(encoding="utf-8") == ERRS


def test_errs_file_is_read_back(tmp_path):
    (tmp_path / "errs.txt").write_text(ERRS, encoding="utf-8")
    found = read_errs(tmp_path / "errs.txt")
    assert found.percent == 60 and found.counts == Counts(1, 1, 1, 3)
    assert found.details == {"u1": "我 (beh->欲) 去", "u2": "去 (無->*)", "u3": "(*->ah)"}
    assert (dict(found.substitutions), dict(found.deletions), dict(found.insertions)) == (
        {("beh", "欲"): 1},
        {"無": 1},
        {"ah": 1},
    )
    assert found.words["去"] == WordStats(2, 0, 2, 2) and found.words["beh"] == WordStats(0, 1, 1, 0)


def test_errors_side_by_side_share_their_parentheses(tmp_path):
    write_errs(tmp_path / "errs.txt", aligned([("u", "a b c d", "a x y d e"), ("v", "a b", "c")]))
    assert read_errs(tmp_path / "errs.txt").details == {"u": "a (b c->x y) d (*->e)", "v": "(a b->c)"}


def test_the_most_frequent_errors_come_first(tmp_path):
    write_errs(tmp_path / "errs.txt", aligned([("u", "a b a b c", "x y x z c")]))
    lines = (tmp_path / "errs.txt").read_text().splitlines()
    start = lines.index("SUBSTITUTIONS: count ref -> hyp") + 1
    assert lines[start : start + 3] == ["2   a -> x", "1   b -> z", "1   b -> y"]


@given(st.lists(st.tuples(words, words), min_size=1, max_size=4))
def test_any_errs_file_says_what_the_alignments_say(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("errs") / "errs.txt"
    alignments = [(f"u{i}", align(ref, hyp)) for i, (ref, hyp) in enumerate(texts)]
    written = write_errs(path, alignments)
    pairs = [pair for _, alignment in alignments for pair in alignment]
    found = read_errs(path)
    assert found.counts == written == count(pairs)
    assert found.deletions.total() == written.deletions and found.insertions.total() == written.insertions
    assert found.substitutions.total() == written.substitutions
    assert sum(stats.in_ref for stats in found.words.values()) == written.units
    assert {pair for pair in found.substitutions} == {(r, h) for r, h in pairs if None not in (r, h) and r != h}
    assert list(found.details) == [id for id, _ in alignments]


def test_recogs_file_is_icefalls_to_the_letter(tmp_path):
    path = tmp_path / "recogs.txt"
    assert write_recogs(path, iter([Recog("u:1", ["我", "beh"], []), Recog("u2", ["it's"], ['"'])])) == 2
    expected = "u:1:\tref=['我', 'beh']\nu:1:\thyp=[]\nu2:\tref=[\"it's\"]\nu2:\thyp=['\"']\n"
    assert path.read_text(encoding="utf-8") == expected


@given(st.dictionaries(ids, st.tuples(tokens, tokens), max_size=4))
def test_any_recogs_file_is_read_back_as_it_was_written(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("recogs") / "recogs.txt"
    recogs = [Recog(id, ref, hyp) for id, (ref, hyp) in texts.items()]
    write_recogs(path, recogs)
    assert list(read_recogs(path)) == recogs


def test_time_stamps_and_empty_lines_are_passed_over(tmp_path):
    lines = ["u:\tref=['a']", "u:\thyp=['b']", "u:\ttimestamp_ref=[0.1]", "u:\ttimestamp_hyp=[0.040, 0.080]", "", ""]
    (tmp_path / "recogs.txt").write_text("\r\n".join(lines))
    assert list(read_recogs(tmp_path / "recogs.txt")) == [Recog("u", ["a"], ["b"])]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("u1 ref=['a']", "line 1: not `id:<tab>ref=.*u1 ref="),
        ("u:\tref=['a']\nu:\thyp=a b", "line 2: not a Python list of strings: a b"),
        ("u:\tref=['a']\nu:\thyp=['a', 1]", "line 2: not a Python list"),
        ("u:\tref=('a',)\nu:\thyp=[]", "line 1: not a Python list"),
        ("u:\tref=['a'\nu:\thyp=[]", "line 1: not a Python list"),
        ("u:\tref=__import__('os').system('true')\n", "line 1: not a Python list"),
        ("u:\tref=" + "[" * 9999 + "\n", "line 1: not a Python list"),
        ("u:\tref=['a']\nv:\tref=['a']", "line 2: u has a reference and no hypothesis"),
        ("u:\thyp=['a']\nu:\tref=['a']", "line 1: the hypothesis of u does not follow"),
        ("u:\tref=['a']\nv:\thyp=['a']", "line 2: the hypothesis of v does not follow"),
        ("u:\tref=[]\nu:\thyp=[]\nu:\tref=[]\nu:\thyp=[]", "line 3: u occurs a second time"),
        ("u:\tref=['a']", "ends after the reference of u"),
    ],
)
def test_what_is_not_in_the_format_is_one_line_with_its_number(tmp_path, text, complaint):
    path = tmp_path / "recogs.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=complaint) as error:
        list(read_recogs(path))
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize("id", ["", "a b", "a\tb", "a\n", " a", "a\u3000b"])
def test_an_id_that_could_not_be_read_back_is_not_written(tmp_path, id):
    with pytest.raises(ValueError, match="white space"):
        write_recogs(tmp_path / "recogs.txt", [Recog(id, [], [])])
    assert not list(tmp_path.iterdir())


def test_summary_has_the_best_first_and_is_read_back(tmp_path):
    path = tmp_path / "wer-summary.txt"
    write_wer_summary(path, {"beam_4": 12.345, "greedy_search": 9.1, "beam_8": 9.1})
    assert path.read_text() == "settings\tWER\nbeam_8\t9.10\ngreedy_search\t9.10\nbeam_4\t12.35\n"
    assert read_wer_summary(path) == {"beam_8": 9.1, "greedy_search": 9.1, "beam_4": 12.35}


@pytest.mark.parametrize("text", ["", "%WER = x\n", "settings WER\n", ERRS.replace("DELETIONS: count ref", "DELETED")])
def test_other_files_are_told_from_result_files(tmp_path, text):
    path = tmp_path / "file.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="not an errs file"):
        read_errs(path)
    with pytest.raises(UserError, match="not a wer-summary"):
        read_wer_summary(path)
