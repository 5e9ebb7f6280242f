"""The parts of the page that are text and tables: header, results, training, runs."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from icefall_ext.score.report.curves import Line, chart
from icefall_ext.score.report.experiment import Experiment, Result, Run
from icefall_ext.score.report.markup import Markup, join, scroller, table, tag

_SHORT = {"syllable error rate, tones ignored": "syllables, tones ignored", "surface tone error rate": "surface tone"}


def heading(experiment: Experiment, written: datetime) -> Markup:
    """The folder is named after recipe and corpus; where it is a run of a table, the folder of all its runs is."""
    folder = experiment.folder.absolute()
    of_all = folder.parents[1] if folder.parent.name == "table-runs" else folder
    recipe, _, corpus = of_all.name.partition("-")
    started = [str(run.about["started"]) for run in experiment.runs if run.about.get("started")]
    commits = dict.fromkeys(str(run.about["commit"])[:12] for run in experiment.runs if run.about.get("commit"))
    facts = [
        ("recipe", recipe),
        ("corpus", corpus),
        ("trained from", min(started, default="")),
        ("commit", ", ".join(commits)),
        ("report of", written.astimezone().strftime("%Y-%m-%d %H:%M %Z")),
    ]
    return join(
        [
            tag("h1", folder.name),
            tag("dl", [tag("div", tag("dt", key), tag("dd", value)) for key, value in facts if value], class_="facts"),
        ]
    )


def headline(results: list[Result]) -> Markup | None:
    """The main figure of each kind of output: the lowest on the first test set."""
    first: dict[str, Result] = {}
    for result in results:
        if not result.is_as_tailo:
            first.setdefault(result.kind, result)
    if not first:
        return None
    return tag(
        "div",
        [
            tag(
                "div",
                tag("p", f"{result.main['name']}, {result.kind}", class_="what"),
                tag("p", f"{result.main['percent']:.2f}", tag("small", " %"), class_="figure"),
                tag("p", _interval(result.main.get("interval"), "95 % interval {} to {}") or "no interval"),
                tag("p", f"{result.run.name}, {result.method}, {result.test_set}", class_="where"),
            )
            for result in first.values()
        ],
        class_="headline",
    )


def gaps(experiment: Experiment) -> Markup | None:
    if not experiment.gaps:
        return None
    items = [tag("li", gap) for gap in dict.fromkeys(experiment.gaps)]
    return tag("aside", tag("h2", "Not in this report"), tag("ul", items), class_="gaps")


def results(experiment: Experiment) -> Markup:
    by_kind: dict[str, list[Result]] = {}
    for result in experiment.results:
        by_kind.setdefault(result.kind, []).append(result)
    if not by_kind:
        return tag("p", "Nothing has been scored yet.", class_="empty")
    return join([_results_of(kind, found) for kind, found in by_kind.items()] + [_how_intervals(experiment.results)])


def _results_of(kind: str, found: list[Result]) -> Markup:
    keys = dict.fromkeys(key for result in found for key in result.scores["rates"])
    names = {key: rate["name"] for result in found for key, rate in result.scores["rates"].items()}
    alike = Counter((result.run.name, result.method, result.test_set) for result in found)
    rows, best = [], {}
    for result in found:
        is_best = best.setdefault(result.test_set, result) is result and len(found) > 1
        rates = result.scores["rates"]
        counts = (f"{result.main[what]:,}" for what in ("substitutions", "deletions", "insertions"))
        rows.append(
            [
                tag("th", _system(result, is_best, alike), scope="row"),
                result.test_set,
                *(_figure(rates.get(key), main=place == 0) for place, key in enumerate(keys)),
                " / ".join(counts),
                [f"{result.scores['utterances']:,}", tag("small", result.scores.get("resampled", ""), class_="under")],
                _number(result.decoding.get("real_time_factor"), "{:.3g}"),
                _number(result.decoding.get("peak_memory_mb"), "{:,.0f} MB"),
            ]
        )
    header = [
        "system", "set", *(_SHORT.get(names[key], names[key]) + " %" for key in keys), "sub / del / ins", "utterances",
        tag("th", tag("abbr", "RTF", title="real-time factor: seconds of work for a second of speech"), scope="col"),
        tag("th", tag("abbr", "memory", title="peak, of the decoder"), scope="col"),
    ]  # fmt: skip
    return scroller(table(kind, header, rows, class_="results"), f"Results, {kind}")


def _system(result: Result, is_best: bool, alike: Counter) -> list[Any]:
    """With its whole name where method and set do not tell it from another one."""
    options = result.decoding.get("options")
    facts = [
        ("name", result.name),
        ("recogs", result.scores["file"]),
        ("checkpoint", result.decoding.get("checkpoint")),
        ("options", ", ".join(f"{k} {v}" for k, v in options.items()) if isinstance(options, dict) else options),
        ("decoded with", command(result.decoding.get("command"))),
        ("trained with", command(result.run.about.get("command"))),
    ]
    how = tag("dl", [[tag("dt", key), tag("dd", value)] for key, value in facts if value])
    best = tag("span", "best", class_="best") if is_best else None
    several = alike[result.run.name, result.method, result.test_set] > 1
    name = tag("small", result.name, class_="name") if several else None
    return [f"{result.run.name}, {result.method} ", best, name, tag("details", tag("summary", "how"), how)]


def _figure(rate: dict[str, Any] | None, *, main: bool) -> Markup:
    if rate is None:
        return tag("td", "-")
    interval = _interval(rate.get("interval"), "{}–{}")
    return tag("td", f"{rate['percent']:.2f}", tag("small", interval, class_="under"), class_="main" if main else None)


def _interval(interval: Any, text: str) -> str:
    return text.format(*(f"{bound:.2f}" for bound in interval)) if interval else ""


def _number(value: Any, text: str) -> str:
    return text.format(value) if isinstance(value, (int, float)) else "-"


def _how_intervals(results: Iterable[Result]) -> Markup:
    resamples = sorted({result.interval["resamples"] for result in results if "resamples" in result.interval})
    drawn = f", {' or '.join(f'{n:,}' for n in resamples)} resamples" if resamples else ""
    return tag(
        "p",
        f"Below a rate is its 95 % interval (bootstrap{drawn}; what was drawn stands below the number of utterances)."
        " Rates are comparable only under the same name. Where several settings are listed, the best of them was chosen"
        " on this very set.",
        class_="note",
    )


def training(runs: Iterable[Run]) -> Markup:
    parts = [part for run in runs if run.metrics and (part := _training_of(run))]
    return join(parts) if parts else tag("p", "No training log (log/metrics.jsonl) was found.", class_="empty")


def _training_of(run: Run) -> Markup | None:
    metrics = run.metrics
    both = [Line(kind, metrics.points(kind, "loss"), kind) for kind in ("train", "valid")]
    terms = [
        Line(name.replace("_", " "), metrics.points("train", name), f"term{place % 4}")
        for place, name in enumerate(metrics.terms())
    ]
    rate = [Line("learning rate", metrics.points("train", "lr"), "term0")]
    in_batches = {"of": run.name, "x_label": "batches"}
    charts = [
        chart("loss", both, y_label="loss", **in_batches),
        chart("terms of the training loss", terms, y_label="loss", **in_batches),
        chart("learning rate", rate, y_label="learning rate", log=False, **in_batches),
    ]
    if not any(charts):
        return None
    return tag(
        "div", tag("h3", run.name), tag("p", _training_facts(run), class_="note"), tag("div", charts, class_="charts")
    )


def _training_facts(run: Run) -> str:
    metrics, facts = run.metrics, [f"{run.metrics.epochs:,} epochs"]
    if lowest := metrics.lowest_valid():
        facts.append(f"lowest valid loss {lowest.values['loss']:.4g} in epoch {lowest.epoch}, batch {lowest.batch:,}")
    speed, wait = metrics.median_of_train("audio_s_per_s"), metrics.median_of_train("wait_share")
    if speed is not None:
        facts.append(f"{speed:,.3g} s of audio a second (median)")
    if wait is not None:
        facts.append(f"{100 * wait:.1f} % of the time waiting for data (median)")
    return "; ".join(facts) + "."


def runs(experiment: Experiment) -> Markup:
    """How each run was made, for whoever wants to do it again."""
    shown = [run for run in experiment.runs if run.about]
    if not shown:
        return tag("p", "No run.json was found, so commit, versions and commands are not known.", class_="empty")
    rows = [
        [
            run.name,
            tag("td", tag("code", command(run.about.get("command")) or "-"), class_="text"),
            *(str(run.about.get(key) or "-") for key in ("started", "commit", "host", "python")),
        ]
        for run in shown
    ]
    return join(
        [
            scroller(table(None, ("run", "command", "started", "commit", "host", "Python"), rows), "Runs"),
            tag("details", tag("summary", "Versions of packages"), _versions(shown)),
        ]
    )


def _versions(runs: list[Run]) -> Markup:
    of_run = {run.name: run.about.get("versions") for run in runs}
    of_run = {name: versions for name, versions in of_run.items() if isinstance(versions, dict)}
    packages = sorted({package for versions in of_run.values() for package in versions})
    rows = [[package, *(versions.get(package) or "-" for versions in of_run.values())] for package in packages]
    return scroller(table(None, ("package", *of_run), rows), "Versions of packages")


def command(given: Any) -> str:
    return shlex.join(map(str, given)) if isinstance(given, list) else str(given or "")
