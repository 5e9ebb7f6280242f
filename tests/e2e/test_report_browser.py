"""The report in a real browser, opened from a disk: Debian's chromium, driven by chromium-driver.

Without the two the tests are skipped and say what to install; with REQUIRE_BROWSER=1, as .ci/run sets it, they fail.
"""

from __future__ import annotations

import os
import shutil
import unicodedata

import pytest

from icefall_ext.bin.report import Config, main
from icefall_ext.cli import parse
from tests.report_toys import EVIL, experiment

FLAGS = """
    --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --window-size=1200,900
""".split()
ALL = ["A-1", "A-2", "B-1", "B-2"]


def programs() -> list[str]:
    found = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(found):
        reason = "needs a browser: apt-get install --no-install-recommends chromium chromium-driver"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium, driver = programs()
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as opened:
        opened.set_script_timeout(20)
        yield opened


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a report")
    exp = experiment(folder)
    main(parse(Config, ["--exp-dir", str(exp), "--cuts", str(folder / "cuts.jsonl.gz")]))
    return (exp / "report/index.html").as_uri()


@pytest.fixture
def page(browser, address):
    """Freshly loaded; a test that leaves an error in the console fails."""
    browser.get(address)
    yield Page(browser)
    assert browser.get_log("browser") == []


class Page:
    def __init__(self, browser):
        self.browser = browser
        self.run = browser.execute_script

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0]).innerText", selector)

    def ids(self) -> list[str]:
        script = "return [...document.querySelectorAll('#list tbody td:nth-child(2)')].map(e => e.firstChild.data)"
        return self.run(script)

    def click(self, selector: str) -> None:
        self.browser.find_element("css selector", selector).click()

    def search(self, text: str) -> list[str]:
        field = self.browser.find_element("id", "search")
        field.clear()
        field.send_keys(text)
        return self.ids()

    def choose(self, place: int) -> None:
        """A system, by its place in the list."""
        self.click(f"#system option[value='{place}']")


def test_the_table_shows_the_figures_and_the_page_loads_nothing_else(page):
    assert "strict CER" in page.text("#results table") and "5.81" in page.text("#results table")
    assert "2 / 1 / 2" in page.text("#results table") and "7.50" in page.text("#results")
    assert page.text(".headline .figure").startswith("0.00")
    loaded = page.run("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_curves_have_points_that_lie_in_the_picture(page):
    lines = page.run("""return [...document.querySelectorAll('#training polyline')].map(line =>
        [line.dataset.name, line.points.length, line.getBoundingClientRect().height])""")
    assert len(lines) == 3 * 4 and {name for name, *_ in lines} == {"train", "valid", "ctc loss", "learning rate"}
    assert all(points > 3 and height > 20 for _, points, height in lines)
    page.run("""const chart = document.querySelector('.chart'), box = chart.getBoundingClientRect();
        chart.dispatchEvent(new PointerEvent('pointermove', {clientX: box.right - 5, clientY: box.top + 20}))""")
    value = page.text("#training output").split("\n")
    assert value[0] == "40" and value[1:] == ["train 0.3854", "valid 0.4354"]  # 8 exp(-40/12) + 0.1


def test_utterances_are_sorted_by_each_heading_in_both_directions(page):
    page.choose(1)
    assert page.ids() == ["B-1", "A-1", "B-2", "A-2"]  # 3 of 3, 1 of 5, 1 of 76, none
    page.click("[data-sort=rate]")
    assert page.ids() == ["A-2", "B-2", "A-1", "B-1"]
    page.click("[data-sort=id]")
    assert page.ids() == ALL
    page.click("[data-sort=id]")
    assert page.ids() == ALL[::-1]
    page.click("[data-sort=length]")
    assert page.ids() == ALL[::-1]  # each is longer than the one before
    page.click("[data-sort=speaker]")
    assert page.ids() == ALL
    assert page.run("return document.querySelector('[data-sort=speaker]').ariaPressed") == "true"


def test_search_finds_text_ids_speakers_and_errors_in_any_unicode_form(page):
    page.choose(1)
    assert page.search("台") == ["A-1"] and page.search("b-") == ["B-1", "B-2"]
    assert "1 of 4 utterances, strict CER 20.00 %" in (page.search("欲→要") and page.text("#count"))
    assert page.search("食→∅") == ["B-1"] and page.search("食") == ["B-1", "A-2"]
    assert page.search("nothing") == [] and page.text("#place") == "page 1 of 1"
    page.choose(2)
    for form in ("NFC", "NFD"):
        assert page.search(unicodedata.normalize(form, "KHÌ")) == ["B-2"]
    page.search("")
    page.click("#wrong")
    assert page.ids() == ["B-1", "A-1"]


def test_an_error_of_the_lists_leads_to_its_utterances(page):
    page.click("[data-search='tai5→tai7']")
    assert page.ids() == ["A-1"] and page.run("return document.querySelector('#system').value") == "2"


def test_errors_are_told_by_signs_and_words_and_not_by_colour_alone(page):
    page.choose(1)
    pairs = page.run("""return [...document.querySelectorAll('#list .pair')].map(e =>
        [e.classList[1], e.children[0].textContent, e.children[1].textContent])""")
    assert ["sub", "欲", "要"] in pairs and ["del", "食", "−"] in pairs and ["ins", "+", "無"] in pairs
    label = page.run("return document.querySelector('#list [role=img]').ariaLabel")
    assert label == "Reference: 伊食飯. Hypothesis: 伊飯無無. Errors: 食→∅, ∅→無, ∅→無"


def test_markup_in_texts_and_speakers_does_nothing(page):
    page.choose(2)
    assert page.search("B-2") == ["B-2"]
    assert EVIL in page.text("#list tbody") and "onerror=window.broken=3" in page.text("#list tbody")
    assert page.run("return window.broken === undefined && !document.querySelector('img[src=x]')")


def test_the_policy_stops_a_script_that_got_in(browser, address):
    browser.get(address)
    browser.execute_script("const s = document.createElement('script'); s.text = 'broken = 1'; document.body.append(s)")
    assert browser.execute_script("return window.broken === undefined")
    assert "Content Security Policy" in browser.get_log("browser")[0]["message"]


def test_an_embedded_recording_loads_and_has_its_length(page):
    page.search("A-2")
    state = page.browser.execute_async_script("""
        const done = arguments[0], audio = document.querySelector('#list audio');
        audio.addEventListener('loadeddata', () => done([audio.readyState, audio.duration]));
        audio.addEventListener('error', () => done([audio.error.message]));
        audio.preload = 'auto'; audio.load();""")
    assert state[0] >= 2 and state[1] == pytest.approx(0.6, abs=0.05)


def test_the_page_fits_a_phone(page):
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        assert page.run("return document.documentElement.scrollWidth") <= 360
        page.click("[data-sort=length]")
        assert page.ids() == ALL[::-1]
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_every_control_has_a_name(page):
    for role in ("input", "select", "button", "audio", "summary"):
        for element in page.browser.find_elements("css selector", f"{role}"):
            if element.is_displayed():
                assert element.accessible_name, element.get_attribute("outerHTML")
