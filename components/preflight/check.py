"""Everything that can be known before a run is paid for, with all problems at once. Imports no torch."""

import json
import sys
import time
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from attrloop.components.annotate.plan import made_from as annotated_from
from attrloop.components.errors import AttrloopError, InputError, Problem
from attrloop.components.preflight.catalogue import Catalogue, check_amount, check_images, read_catalogue
from attrloop.components.preflight.finding import Finding
from attrloop.components.preflight.forecast import Forecast, check_budget, check_disk, check_work, forecast
from attrloop.components.preflight.model import check_engine, check_gpu, check_model
from attrloop.components.preflight.services import check_annotator, check_tracking
from attrloop.components.run.artifact import Artifact, read_manifest
from attrloop.components.run.config import RunConfig
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.store import open_store

_AGAIN = 20  # images opened when an earlier check has seen the catalogue
_SOMEWHERE = "runs/run"  # stands for the workspace where none is given yet
_COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}


@dataclass(frozen=True)
class Outcome:
    """All findings and, when the data can be relied on, the forecast."""

    findings: list[Finding]
    forecast: Forecast | None

    @property
    def problems(self) -> list[Problem]:
        return [problem for finding in self.findings for problem in finding.problems]


def check(workspace: str) -> None:
    """Runs every check, prints a table and writes `preflight/report.json`.

    It looks anew each time at what may have changed outside; of the images only a few are opened again while the catalogue is the same.

    Args:
        workspace: URI of the run's workspace.

    Raises:
        InputError: with all problems.
    """
    started = time.monotonic()
    ws = Workspace.open(workspace)
    made_from = _made_from(ws)
    before = read_manifest(ws.store, "preflight")
    known = before is not None and made_from is not None and before.made_from == made_from
    outcome = examine(ws.config, ws.store.root, annotated=_annotated(ws), images=not known)
    Console().print(as_table(outcome))
    report = {
        "findings": [
            {"check": f.name, "state": f.state, "detail": f.detail, "problems": [asdict(p) for p in f.problems]}
            for f in outcome.findings
        ],
        "forecast": asdict(outcome.forecast) if outcome.forecast else None,
    }
    stage = Artifact(ws.store, "preflight", made_from or {"catalogue": "unreadable"})
    ws.store.write("preflight/report.json", json.dumps(report, indent=1).encode())
    if outcome.problems:
        raise InputError(outcome.problems)
    stage.finish("preflight", {"checks": len(outcome.findings), "seconds": time.monotonic() - started}, [])


def problems(config: RunConfig, workspace: str = _SOMEWHERE) -> list[Problem]:
    """All problems of a config, for use before there is a workspace; nothing is written.

    Args:
        workspace: URI of where the run's workspace will be; decides which disk is looked at.
    """
    return examine(config, workspace).problems


def examine(config: RunConfig, workspace: str = _SOMEWHERE, annotated: bool = False, images: bool = True) -> Outcome:
    """Runs every check.

    Args:
        annotated: the labels are there already, so the annotator is not needed.
        images: whether to open as many images as the config says, or a few only.
    """
    store = open_store(workspace)
    catalogue, findings = read_catalogue(config)
    findings.append(check_amount(config, catalogue))
    findings.append(check_images(config, catalogue, min(config.data.check_images, sys.maxsize if images else _AGAIN)))
    model, facts = check_model(config.model)
    found = forecast(config, catalogue, facts)
    findings += [
        check_budget(config, found),
        _endpoint(config, catalogue, annotated),
        check_tracking(config, store.root),
        model,
        check_gpu(),
    ]
    place = Finding("workspace", store.root)
    with place.gathering(store.root):
        place.problems += store.check()
    return Outcome(
        [*findings, check_engine(config), check_work(config, found), check_disk(store.home, found), place], found
    )


def _endpoint(config: RunConfig, catalogue: Catalogue, annotated: bool) -> Finding:
    if annotated:
        return Finding("annotator", "not needed: the labels are there")
    if catalogue.plan is not None and not catalogue.plan.wanted:
        return Finding("annotator", "not needed: the labels given fill the counts")
    return check_annotator(config)


def _made_from(ws: Workspace) -> dict[str, str] | None:
    """None when the files are not there to be digested."""
    try:
        return {"data": ws.config.digest("data"), "catalogue": ws.data_digest}
    except (OSError, AttrloopError):
        return None


def _annotated(ws: Workspace) -> bool:
    manifest = read_manifest(ws.store, "annotate")
    try:
        return manifest is not None and manifest.made_from == annotated_from(ws)
    except (OSError, AttrloopError):
        return False


def as_table(outcome: Outcome) -> Table:
    """One row a check; the problems themselves are in the error that follows."""
    table = Table("check", "", "found", title="preflight", title_justify="left")
    for finding in outcome.findings:
        count = len(finding.problems)
        detail = (
            finding.detail
            if not count
            else f"{count} problem{'s' if count > 1 else ''}" + (f"; {finding.detail}" if finding.detail else "")
        )
        table.add_row(finding.name, f"[{_COLOURS[finding.state]}]{finding.state}[/]", _escaped(detail))
    return table


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
