"""The run's report for people (`report.html`, one file that needs no network) and for scripts (`summary.json`)."""

import json
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import yaml
from rich.table import Table
from rich.text import Text

from attrloop.components.console import PlainConsole
from attrloop.components.report import gold, labels, panels, plots, training
from attrloop.components.report.confusions import confusions
from attrloop.components.report.gallery import KINDS, examples
from attrloop.components.results.evaluation import METRICS
from attrloop.components.results.reader import Results
from attrloop.components.run import layout
from attrloop.components.run.manifest import has, intact
from attrloop.components.run.reporting import reports
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.opening import open_store
from attrloop.components.tracking.server import connect, explained, resolve_uri


@reports("report")
def write_report(workspace: str, state: str, page_file: str) -> None:
    """Writes the report, a local copy of the page, and adds report and summary to the tracked run.

    Args:
        workspace: URI of the run's workspace.
        state: the loop's final state (JSON).
        page_file: local path of the copy.

    Raises:
        InputError: a stage was not evaluated on validation.
        AttrloopError: the tracking server is down.
    """
    write_page(workspace, state, page_file)
    attach(workspace)


def write_page(workspace: str, state: str, page_file: str) -> None:
    """Writes the report so far, and a local copy of the page.

    Raises:
        InputError: a stage was not evaluated on validation.
    """
    report(workspace, state)
    Path(page_file).write_bytes(open_store(workspace).read(layout.REPORT))


def report(workspace: str, state: str = "") -> str:
    """Writes `report.html` and `summary.json` into the workspace. The same input gives the same files.

    Args:
        workspace: URI of the run's workspace; the run may have been stopped early.
        state: the loop's state (JSON); "" for the one that the workspace keeps.

    Returns:
        Path or URI of the page.

    Raises:
        InputError: a stage was not evaluated on validation.
    """
    results = Results.of(workspace, state)
    results.require("validation")
    store = results.ws.store
    store.write(layout.SUMMARY, json.dumps(summary(results), indent=1).encode())
    store.write(layout.REPORT, page(results).encode())
    return f"{store.root}/{layout.REPORT}"


def attach(workspace: str) -> None:
    """Adds report and summary, which are written after registration, to the artifacts of the tracked run.

    Raises:
        AttrloopError: the tracking server is down.
    """
    ws = Workspace.open(workspace)
    if not has(ws.store, layout.REGISTRATION):
        return
    run = json.loads(intact(ws.store, layout.REGISTRATION).read_bytes())["parent_run"]
    uri = resolve_uri(ws.config, ws.store.root)
    client = connect(uri)
    with explained(uri):
        for path in (layout.REPORT, layout.SUMMARY):
            if ws.store.exists(path):
                client.log_artifact(run, str(ws.store.file(path)))


def summary(results: Results) -> dict[str, Any]:
    """What `summary.json` holds: see summary.schema.json. `test` is None until a stage was evaluated on it."""
    stages = []
    for stage in results.stages:
        rows = results.pairs(stage)
        pairs = int(rows["contrast"].sum()) if rows is not None else 0
        anchors = rows.height - pairs if rows is not None else 0
        accuracies: dict[str, Any] = {"validation": None, "test": None}
        for split, by_stage in results.evaluations.items():
            if found := by_stage.get(stage):
                figures = {metric.summary: found.number(name) for name, metric in METRICS.items() if metric.summary}
                accuracies[split] = {**figures, "verticals": found.accuracies}
        minutes = round(results.seconds(stage) / 60, 3)
        stages.append({"name": stage, **accuracies, "pairs": pairs, "anchors": anchors, "minutes": minutes})
    number = results.registration.get("model_version")
    return {
        "stages": stages,
        "best": results.best,
        "model_version": None if number is None else int(number),
        "seed": results.ws.config.seed,
        "minutes": round(results.total_seconds / 60, 3),
    }


def print_table(workspace: str, console: PlainConsole | None = None) -> None:
    """Prints accuracy for each vertical and stage, and the gain of the best stage with its interval."""
    results = Results.of(workspace)
    results.require("validation")
    best, reference = results.best, results.reference
    table = Table(title=f"Accuracy on {results.split} (%), {best} is best on validation", title_justify="left")
    table.add_column("vertical")
    for stage in results.stages:
        table.add_column(plots.title(stage), justify="right", style="bold" if stage == best else "")
    table.add_column(f"{plots.title(best)} - {plots.title(reference)}", justify="right")
    for row in panels.vertical_rows(results):
        if row.name == "macro":
            table.add_section()
        gain = row.gain
        ink = "green" if gain.delta > 0 else "red" if gain.delta < 0 else "dim"
        change = Text.assemble(
            (f"{100 * gain.delta:+.1f}", ink), " ", (f"({100 * gain.low:+.1f} to {100 * gain.high:+.1f})", "dim")
        )
        table.add_row(row.name, *(f"{100 * cell.accuracy:.1f}" for cell in row.cells), change)
    (console or PlainConsole()).print(table)


def headline(results: Results) -> str:
    """The run in one sentence."""
    before, after = (results.shown[stage].macro_accuracy for stage in (results.reference, results.best))
    count, start = len(results.gain.verticals), plots.title(results.reference)
    if results.state.best == results.state.first:
        name, base = plots.title(results.best), f" (base: {before:.1%})" if results.reference == "base" else ""
        told = f"{after:.1%} macro accuracy on {results.split} over {count} verticals{base}"
        return f"No iteration beat {name} on validation, so {name} stays the best: {told}."
    up = sum(change.delta > 0 for change in results.gain.verticals.values())
    gain = results.gain.macro
    if after == before:
        moved = f"stayed at {after:.1%} (best: {results.best})"
    else:
        moved = (
            f"{'rose' if after > before else 'fell'} from {before:.1%} ({start}) to {after:.1%} (best: {results.best})"
        )
    change = f"{100 * (after - before):+.1f} points (95% interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
    up_of = f"over {count} verticals, {up} of {count} up"
    return f"On {results.split}, macro accuracy {moved} {up_of}; the gain is {change}."


def page(results: Results) -> str:
    """The report as one HTML document."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "name": plots.title,
        "ink": plots.colour,
        "percent": lambda value: f"{value:.1%}",
        "points": lambda value: f"{100 * value:+.1f}",
    }
    template = environment.from_string(
        files("attrloop.components.report").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    config = results.ws.config
    return template.render(
        results=results,
        config=config,
        headline=headline(results),
        rows=panels.vertical_rows(results),
        charts=panels.charts(results),
        watched=panels.watched(results),
        publishable=panels.publishable(results),
        mining=training.mining(results),
        curves=training.curves(results),
        confusions=list(confusions(results)),
        labelled=labels.labelled(results),
        gold=gold.gold(results),
        labels=labels.shortfalls(results),
        kinds={kind: heading for kind, (_, heading) in KINDS.items()},
        gallery=examples(results, config.evaluate.report_examples),
        config_text=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        version=version("attrloop"),
    )
