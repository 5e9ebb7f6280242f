"""bin/report: what the page says is what bin/score found, whatever is in the texts and whatever is missing."""

import base64
import gzip
import io
import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from icefall_ext.bin.report import Config, main
from icefall_ext.cli import parse
from icefall_ext.errors import UsageError, UserError
from icefall_ext.score.report.audio import make_clips, read_cuts
from icefall_ext.score.report.curves import Line, chart, thinned, ticks
from icefall_ext.score.report.markup import embedded_json, tag
from icefall_ext.score.report.metrics import read_metrics
from tests.report_toys import EVIL, HANLO, SUFFIX, cuts_of, experiment, recogs, run_folder, run_score, words_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    return experiment(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def exp(scored, tmp_path):
    """A copy that a test may spoil."""
    return Path(shutil.copytree(scored, tmp_path / scored.name, ignore=shutil.ignore_patterns("report")))


class Page(HTMLParser):
    """What a browser would find: text by element id, scripts, attributes."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.scripts: dict[str | None, str] = {}
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self._script: str | None | bool = False
        self.feed(html)

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))
        if name == "script":
            self._script = dict(attributes).get("id")
        self._in_script = name in ("script", "style")

    def handle_endtag(self, name):
        if name in ("script", "style"):
            self._in_script = False

    def handle_data(self, data):
        if getattr(self, "_in_script", False):
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        else:
            self.text += data

    def json(self, id):
        return json.loads(self.scripts[id])


def report(exp: Path, *options: object) -> Page:
    main(parse(Config, ["--exp-dir", str(exp), *map(str, options)]))
    return Page((exp / "report/index.html").read_text(encoding="utf-8"))


def cuts_beside(exp: Path) -> Path:
    return exp.parents[1] / "cuts.jsonl.gz"


def test_every_rate_of_every_system_is_in_the_page_with_its_interval(scored):
    page = report(scored)
    systems = [s for path in scored.rglob("scores-*.json") for s in json.loads(path.read_text())["systems"]]
    assert len(systems) == 3
    for system in systems:
        assert system["name"] in page.text
        for rate in system["rates"].values():
            low, high = rate["interval"]
            assert f"{rate['percent']:.2f}{low:.2f}–{high:.2f}" in page.text
    assert page.text.index("strict CER") < page.text.index("syllable error rate")
    assert "0.042" in page.text and "512 MB" in page.text and "0123456789ab" in page.text
    assert "train --exp-dir 'a b/phase1'" in page.text


def test_nothing_in_the_page_comes_from_outside(scored):
    page = report(scored, "--cuts", cuts_beside(scored))
    for name, attributes in page.tags:
        for key in ("src", "href"):
            assert attributes.get(key, "#").startswith(("#", "data:")), (name, attributes)
    assert "http" not in re.sub("http-equiv|http://www.w3.org/2000/svg", "", (scored / "report/index.html").read_text())


def test_markup_in_texts_ids_and_speakers_stays_text(scored):
    page = report(scored, "--cuts", cuts_beside(scored))
    kinds = [attributes.get("type") for name, attributes in page.tags if name == "script"]
    assert kinds.count(None) == 1 and set(kinds) == {None, "application/json"}
    assert not [name for name, attributes in page.tags if name == "img" and attributes["src"] == "x"]
    assert not [attributes for _, attributes in page.tags if any(key.startswith("on") for key in attributes)]
    rows = {row[0]: row for row in page.json("system-2")["rows"]}
    assert EVIL in rows["B-2"][1]
    assert page.json("cuts")["B-2"][0] == "B<img/src=x/onerror=window.broken=3>"


def test_rows_hold_the_alignment_that_the_main_rate_counts(scored):
    page = report(scored)
    first = re.search(r'<option value="0">(.*?)<', (scored / "report/index.html").read_text(encoding="utf-8"))[1]
    assert first.startswith("phase2, modified_beam_search: strict CER 0.00 %")  # the best first
    rows = {row[0]: row for row in page.json("system-1")["rows"]}
    assert rows["A-2"] == ["A-2", "食飯", 0, 0, 0, 2]
    assert rows["A-1"] == ["A-1", "我欲去台北", "我要去台北", ["我", ["欲", "要"], "去", "台", "北"], 1, 5]
    assert rows["B-1"][3:] == [["伊", ["食", 0], "飯", [0, "無"], [0, "無"]], 3, 3]
    scores = json.loads(next((scored / "phase2").rglob("scores-sweep.json")).read_text())["systems"][0]["rates"]["cer"]
    assert sum(row[4] for row in rows.values()) == sum(scores[k] for k in ("insertions", "deletions", "substitutions"))
    assert sum(row[5] for row in rows.values()) == scores["units"]


def test_error_lists_have_the_most_frequent_first(scored):
    report(scored)
    html = (scored / "report/index.html").read_text(encoding="utf-8")
    inserted = re.search(r"characters, inserted.*?</table>", html)[0]
    assert re.findall(r'data-search="([^"]+)".*?<td>(\d+)</td><td>([^<]+)</td>', inserted) == [("∅→無", "2", "-")]
    substituted = re.search(r"syllables, substituted.*?</table>", html)[0]
    found = re.findall(r'data-search="([^"]+)".*?<td>(\d+)</td><td>(\d+)</td>', substituted)
    assert found == [("png7→png5", "1", "2"), ("tai5→tai7", "1", "1")]  # not tsiah8→png5
    tones = re.search(r"citation tones, substituted.*?</table>", html)[0]
    assert re.findall(r'scope="row">([^<]+)</th><td>(\d)</td><td>(\d)', tones) == [("5→7", "1", "1"), ("7→5", "1", "2")]


def test_the_tone_matrix_frames_confusions_of_5_7_and_8_and_has_its_picture(scored):
    report(scored)
    html = (scored / "report/index.html").read_text(encoding="utf-8")
    matrix = re.search(r"<caption>citation tones: %.*?</table>", html)[0]
    row5 = next(row for row in matrix.split("<tr>") if row.startswith('<th scope="row">5<'))
    assert '<td class="wrong framed" style="--heat:100%">100<small class="under">1</small></td>' in row5
    # 5, 7 and 8 in six ordered pairs.
    assert matrix.count("framed") == 6
    picture = (scored / f"phase1/greedy_search/tones-test-greedy_search-{SUFFIX}.png").read_bytes()
    assert base64.b64encode(picture).decode() in html
    assert "surface tones: % of" in html


def test_embedded_clips_are_the_part_of_the_file_that_the_cut_names(scored):
    audio = report(scored, "--cuts", cuts_beside(scored)).json("audio")
    assert sorted(audio) == sorted(HANLO)
    for place, id in enumerate(HANLO):
        clip, rate = soundfile.read(io.BytesIO(base64.b64decode(audio[id].removeprefix("data:audio/flac;base64,"))))
        assert rate == 16000 and len(clip) == pytest.approx(16000 * (0.5 + 0.1 * place), abs=2)
        expected = 0.1 * np.sin((0.25 * 8000 + np.arange(len(clip)) / 2) / 5)  # the file is of 8 kHz
        assert clip[500:-500] == pytest.approx(expected[500:-500], abs=2e-3)


def test_the_worst_utterances_are_embedded_first_and_the_others_linked_or_counted(scored, tmp_path):
    cuts = read_cuts([str(cuts_beside(scored))])
    one = len(make_clips("embed", cuts, ["B-1"], tmp_path / "x.html", 1e9).urls["B-1"])
    limit = ("--max-embedded-mb", one * 1.5 / 1e6)
    page = report(scored, "--cuts", cuts_beside(scored), "--audio", "embed", *limit)
    # All are right in the best system; the sweep's other one has most errors in B-1.
    assert len(page.json("audio")) == 1 and "3 did not fit" in page.text
    linked = report(scored, "--cuts", cuts_beside(scored), "--audio", "auto", *limit).json("audio")
    assert sorted(url[:5] for url in linked.values()) == ["./../"] * 3 + ["data:"]
    assert report(scored, "--cuts", cuts_beside(scored), "--audio", "none").json("audio") == {}


def test_a_link_names_the_file_from_the_page_and_the_part_to_play(scored):
    audio = report(scored, "--cuts", cuts_beside(scored), "--audio", "link").json("audio")
    assert audio["A-2"] == "./../../../a%20b%231.wav#t=0.25,0.85"


def test_utterances_without_audio_are_counted_and_the_first_is_named(exp, tmp_path):
    cuts = cuts_of(tmp_path / "cuts")
    (tmp_path / "cuts/a b#1.wav").unlink()
    (tmp_path / "cuts/a b#2.wav").write_bytes(b"no audio")
    page = report(exp, "--cuts", cuts)
    assert sorted(page.json("audio")) == ["A-1", "B-2"]
    assert "2 of 4 utterances have no audio; the first: " in page.text


def test_speed_changed_and_mixed_cuts_have_no_clip(tmp_path):
    path = cuts_of(tmp_path, ["A-1", "A-2"])
    with gzip.open(path, "rt") as stream:
        first, second = map(json.loads, stream)
    first["recording"]["transforms"] = [{"name": "Speed", "kwargs": {"factor": 0.9}}]
    del second["recording"]
    (tmp_path / "c.jsonl").write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    assert [cut.audio for cut in read_cuts([str(tmp_path / "c.jsonl")]).values()] == [None, None]


def test_recogs_without_scores_are_a_gap_that_names_the_command(exp):
    recogs(exp / "phase2/fast_beam_search", HANLO, "beam_8")
    page = report(exp)
    name = f"phase2/fast_beam_search/recogs-test-beam_8-{SUFFIX}.txt"
    assert f"{name} has no scores; python -m icefall_ext.bin.score --script ... --recogs {exp / name}" in page.text


def test_settings_of_one_method_are_told_apart_by_their_names(exp):
    path = recogs(exp / "phase2/modified_beam_search", HANLO, "beam_size_8")
    run_score("--script", "hanlo", "--recogs", path)
    report(exp)
    html = (exp / "report/index.html").read_text(encoding="utf-8")
    shown = re.findall(r'<small class="name">([^<]+)<', html)
    assert shown == [f"test-beam_size_{n}-{SUFFIX}" for n in (4, 8)]  # the greedy one is the only one of its method


def test_utterances_that_could_not_be_decoded_are_a_gap(exp):
    path = exp / f"phase1/greedy_search/decoding-test-{SUFFIX}.json"
    path.write_text(json.dumps({"failed": {"C-2": "no audio", "C-1": "no audio"}}))
    assert f"test-greedy_search-{SUFFIX}: 2 utterances were not decoded, the first is C-1" in report(exp).text


def test_scores_of_an_older_recogs_file_are_a_gap(exp):
    recogs(exp / "phase2/greedy_search", {id: (ref, ref) for id, (ref, _) in HANLO.items()}, "greedy_search")
    page = report(exp)
    assert "greedy_search-epoch-2-avg-1.txt is not what its scores are of; score it again" in page.text
    assert "system-2" not in page.scripts


def test_an_experiment_that_is_still_training_gives_its_curves_and_says_so(tmp_path):
    run_folder(tmp_path / "clift-mini/phase1", 20)
    page = report(tmp_path / "clift-mini")
    assert "There is no result yet" in page.text and "polyline" in {name for name, _ in page.tags}
    assert "Nothing has been scored yet." in page.text


def test_damaged_files_are_gaps_and_not_the_end(exp):
    (exp / "phase2/run.json").write_text('{"commit"')
    with open(exp / "phase1/log/metrics.jsonl", "a") as stream:
        stream.write('{"kind":"train","epoch":3,"batch":99,"loss":NaN}\n{"kind":"tra')
    (exp / "phase2/scores-x.json").write_text('{"systems": [{"name": "x"}]}')
    text = report(exp).text
    assert "phase2/run.json is damaged and is left out." in text
    assert "phase1/log/metrics.jsonl: 1 lines hold no record" in text
    assert "1 losses are no finite numbers" in text
    assert "phase2/scores-x.json: a system in it lacks rates" in text


def test_a_moved_experiment_finds_the_recogs_files_of_its_scores(exp):
    page = report(exp)  # the paths in its scores are of the folder that it was copied from
    assert {"system-0", "system-1", "system-2"} <= page.scripts.keys()


def test_han_output_scored_by_its_readings_is_a_table_of_its_own(tmp_path):
    exp, manifest = tmp_path / "exp", tmp_path / "m.jsonl.gz"
    with gzip.open(manifest, "wt", encoding="utf-8") as stream:
        item = {"id": "A-2", "text": "食 飯", "speaker": "A", "custom": {"tailo": "tsiah8 png7"}}
        print(json.dumps(item), file=stream)
    path = recogs(exp / "phase2/greedy_search", {"A-2": HANLO["A-2"]}, "greedy_search")
    run_score("--script", "hanlo", "--recogs", path, "--manifest", manifest, "--readings", manifest)
    page = report(exp)
    assert "Han-Lo output read as Tai-lo" in page.text and "system-1" not in page.scripts
    assert "surface tones: % of" in page.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--exp-dir", "nowhere"], "nowhere: no such folder"),
        (["--exp-dir", "."], "no run folder, training log or result"),
        (["--exp-dir", ".", "--cuts", "none.jsonl"], "--cuts none.jsonl: no such file"),
        (["--exp-dir", ".", "--audio", "embed"], "--audio embed: needs --cuts"),
        (["--exp-dir", ".", "--max-embedded-mb", "-1"], "--max-embedded-mb -1.0"),
        (["--exp-dir", ".", "--out", "."], "--out .: is a folder"),
    ],
)
def test_what_cannot_be_reported_is_one_line_and_no_file(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as raised:
        main(parse(Config, options))
    assert message in str(raised.value) and list(tmp_path.iterdir()) == []
    assert isinstance(raised.value, UsageError) == (len(options) > 2)  # said before anything is read


@pytest.mark.parametrize(
    ("line", "message"),
    [("[1]\n", "line 1: not a cut"), ('{"id": "A-1", "duration": "x"}\n', "line 1: not a cut"), ("", "no cut in it")],
)
def test_cuts_that_are_none_are_one_line(exp, tmp_path, line, message):
    (tmp_path / "c.jsonl").write_text(line)
    with pytest.raises(UserError, match=f"c.jsonl: {message}"):
        report(exp, "--cuts", tmp_path / "c.jsonl")
    assert not (exp / "report").exists()


def test_half_a_surrogate_pair_in_a_name_does_not_end_the_writing(exp, tmp_path):
    (tmp_path / "c.jsonl").write_text('{"id": "A-1", "duration": 1, "supervisions": [{"speaker": "\\ud800"}]}')
    assert report(exp, "--cuts", tmp_path / "c.jsonl").json("cuts")["A-1"] == ["?", 1]


def test_a_resumed_run_counts_what_it_wrote_last(tmp_path):
    def line(kind, epoch, batch, loss):
        return json.dumps({"kind": kind, "epoch": epoch, "batch": batch, "loss": loss})

    first = [line("train", 1, b, 1.0) for b in (10, 20, 30)] + [line("valid", 1, 30, 1.5)]
    again = [line("train", 1, b, 2.0) for b in (20, 30, 40)] + [line("valid", 1, 40, 1.2)]
    (tmp_path / "m").write_text("\n".join(first + again))
    metrics = read_metrics(tmp_path / "m")
    assert metrics.points("train", "loss") == [(10, 1.0), (20, 2.0), (30, 2.0), (40, 2.0)]
    assert metrics.points("valid", "loss") == [(30, 1.5), (40, 1.2)]
    assert metrics.lowest_valid().batch == 40


@pytest.mark.parametrize("through", [True, False])
def test_batches_numbered_through_or_anew_in_each_epoch_lie_on_one_axis(tmp_path, through):
    records = [(1, 50, 50), (1, 100, 100), (2, 150 if through else 50, 150), (2, 200 if through else 100, 200)]
    lines = [json.dumps({"kind": "train", "epoch": e, "batch": b, "loss": 1.0}) for e, b, _ in records]
    (tmp_path / "m").write_text("\n".join(lines))
    assert [x for x, _ in read_metrics(tmp_path / "m").points("train", "loss")] == [x for _, _, x in records]


def test_a_long_curve_is_thinned_without_losing_its_spike():
    points = [(float(i), 1.0) for i in range(100_000)]
    points[70_001] = (70_001.0, 99.0)
    kept = thinned(points)
    assert len(kept) < 700 and (70_001.0, 99.0) in kept and kept[0] == points[0] and kept[-1] == points[-1]
    assert kept == sorted(kept)


@pytest.mark.parametrize("ys", [[1.0], [0.0, 0.0], [3.0, 3.0], [1e-9, 5.0], [-2.0, 4.0], [1e6, 1e6 + 1]])
def test_a_chart_of_any_range_places_every_point_inside(ys):
    drawn = chart(
        "t", [Line("train", [(float(i), y) for i, y in enumerate(ys)], "train")], of="o", x_label="b", y_label="l"
    )
    (places,) = re.findall(r'points="([^"]+)"', drawn)
    for x, y in (map(float, place.split(",")) for place in places.split()):
        assert 52 <= x <= 404 and 10 <= y <= 190 and math.isfinite(x + y)
    assert chart("t", [Line("train", [], "train")], of="o", x_label="b", y_label="l") is None


def test_ticks_are_round_and_cover_the_range():
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(0.13, 0.94)[0] <= 0.13 and ticks(0.13, 0.94)[-1] >= 0.94


def test_elements_escape_text_and_attributes_and_json_cannot_end_its_script():
    assert tag("p", "<b>&", title='"<', hidden=True, lang=None) == '<p title="&quot;&lt;" hidden>&lt;b&gt;&amp;</p>'
    text = "</script><!-- \u2028 & ]]>"
    inside = embedded_json("x", [text])[len('<script type="application/json" id="x">') : -len("</script>")]
    assert not set("<>&\u2028") & set(inside) and json.loads(inside) == [text]


def test_the_program_starts_without_torch_or_lhotse():
    code = "import sys, icefall_ext.bin.report; print({'torch', 'lhotse', 'soundfile'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "set()\n"


# Models of isolated words


@pytest.fixture
def words(tmp_path) -> Path:
    exp = tmp_path / "sita-mini"
    words_of(exp / "stage2", 0.675, errors=True, batches=20)
    words_of(exp / "before", 0.01)
    words_of(exp / "table-runs/other/stage1", 0.9)
    return exp


def test_models_of_words_stand_side_by_side_with_their_pictures_in_the_page(words):
    page = report(words)
    unseen = page.text[page.text.index("Speakers who are in no training") : page.text.index("Speakers of the training")]
    before, stage2 = unseen.index("before2168"), unseen.index("stage22168")  # model, block, recordings, gallery
    assert before < stage2 and "0.5000.7500.0100.0030.250-" in unseen[before:stage2], "no figure over no pairs"
    assert "0.6750.1690.250-51.230.020.010.0-0.625 (0.500)" in unseen[stage2:]
    pictures = [attributes["src"] for name, attributes in page.tags if name == "img"]
    shown = [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in pictures]
    assert shown == [b"\x89PNG of before", b"\x89PNG of stage2"], "and none of a table's runs"
    assert "stage2, unseen speakers" in page.text and "51.2" in page.text
    assert hidden_sections(page) == {"results", "tones", "errors", "utterances"}
    assert "There is no result yet" not in page.text


def test_a_run_of_a_table_has_the_recipe_and_corpus_of_all_its_runs(exp):
    run = exp.rename(exp.parent / "default-seed1")
    (exp.parent / "clift-mini/table-runs").mkdir(parents=True)
    text = report(shutil.move(run, exp.parent / "clift-mini/table-runs/default-seed1")).text
    assert "default-seed1recipecliftcorpusmini" in text


def test_an_experiment_without_words_hides_their_part(scored):
    assert hidden_sections(report(scored)) == {"words"}


def hidden_sections(page: Page) -> set[str]:
    return {attributes["id"] for name, attributes in page.tags if name == "section" and "hidden" in attributes}


def test_damaged_scores_of_words_are_a_gap(words):
    (words / "before/scores/words.json").write_text('{"sets": []}')
    page = report(words)
    assert "before/scores/words.json is damaged and is left out" in page.text and "stage22168" in page.text
