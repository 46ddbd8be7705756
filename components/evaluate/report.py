"""The run's report for people (`report.html`, one file that needs no network) and for scripts (`summary.json`)."""

import json
from importlib.metadata import version
from importlib.resources import files

import jinja2
import yaml
from rich.console import Console
from rich.table import Table

from attrloop.components.evaluate import panels, plots
from attrloop.components.evaluate.facts import Facts, summary
from attrloop.components.evaluate.gallery import KINDS, examples

PAGE, SUMMARY = "report.html", "summary.json"


def report(workspace: str, state_json: str) -> None:
    """Writes `report.html` and `summary.json` at the workspace's root; safe to repeat, and the same input gives the same files.

    Args:
        workspace: URI of the run's workspace.
        state_json: the loop's final state; "" to take the one that the workspace keeps.

    Raises:
        InputError: nothing was evaluated yet.
    """
    facts = Facts.of(workspace, state_json)
    facts.ws.store.write(SUMMARY, json.dumps(summary(facts), indent=1).encode())
    facts.ws.store.write(PAGE, page(facts).encode())


def render(workspace: str) -> str:
    """Builds report and summary of a run anew, also of one that was cut short; returns the report's path or URI."""
    report(workspace, "")
    return f"{Facts.of(workspace).ws.store.root}/{PAGE}"


def print_table(workspace: str, console: Console | None = None) -> None:
    """Prints accuracy per vertical and stage, the gain of the best stage and its interval."""
    facts = Facts.of(workspace)
    table = Table(title=f"Accuracy on {facts.split} (%), {facts.best} is best on validation", title_justify="left")
    table.add_column("vertical")
    for stage in facts.stages:
        table.add_column(plots.title(stage), justify="right", style="bold" if stage == facts.best else "")
    table.add_column(f"{plots.title(facts.best)} - {plots.title(facts.reference)}", justify="right")
    for row in panels.vertical_rows(facts):
        if row["name"] == "macro":
            table.add_section()
        low, high = row["interval"]
        ink = "green" if row["delta"] > 0 else "red" if row["delta"] < 0 else "dim"
        change = f"[{ink}]{100 * row['delta']:+.1f}[/] [dim]({100 * low:+.1f} to {100 * high:+.1f})[/]"
        table.add_row(row["name"], *(f"{100 * cell['accuracy']:.1f}" for cell in row["cells"]), change)
    (console or Console()).print(table)


def headline(facts: Facts) -> str:
    """The run in one sentence."""
    figures = facts.shown
    before, after = figures[facts.reference]["macro_accuracy"], figures[facts.best]["macro_accuracy"]
    count, start = len(facts.gain["verticals"]), plots.title(facts.reference)
    if facts.best == facts.first:
        name = plots.title(facts.first)
        told = f"{after:.1%} macro accuracy on {facts.split} over {count} verticals"
        return f"No iteration beat {name} on validation, so {name} stays the best: {told}" + (
            f" (base: {before:.1%})." if facts.reference == "base" else "."
        )
    up = sum(entry["delta"] > 0 for entry in facts.gain["verticals"].values())
    low, high = (100 * bound for bound in facts.gain["macro"]["interval"])
    words = f"from {before:.1%} ({start}) to {after:.1%} (best: {facts.best})"
    moved = (
        f"stayed at {after:.1%} (best: {facts.best})"
        if after == before
        else f"{'rose' if after > before else 'fell'} {words}"
    )
    return (
        f"On {facts.split}, macro accuracy {moved} over {count} verticals, {up} of {count} up; "
        f"the gain is {100 * (after - before):+.1f} points (95% interval {low:+.1f} to {high:+.1f})."
    )


def page(facts: Facts) -> str:
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
        files("attrloop.components.evaluate").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    config = facts.ws.config
    return template.render(
        facts=facts,
        config=config,
        headline=headline(facts),
        rows=panels.vertical_rows(facts),
        charts=panels.charts(facts),
        guards=panels.guards(facts),
        publishable=panels.publishable(facts),
        mining=panels.mining(facts),
        training=panels.training(facts),
        confusions=list(panels.confusions(facts)),
        labelled=panels.labelled(facts),
        kinds={kind: words for kind, (_, words) in KINDS.items()},
        gallery=examples(facts, config.evaluate.report_examples),
        registered=facts.read("register/result.json"),
        promoted=facts.read("promote/result.json"),
        config_text=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        version=version("attrloop"),
    )
