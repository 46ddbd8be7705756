"""Runs every check and reports all problems at once."""

import json
import sys
import time
from dataclasses import asdict, dataclass

from rich.table import Table
from rich.text import Text

from attrloop.components.annotate.plan import made_from as annotated_from
from attrloop.components.console import PlainConsole
from attrloop.components.errors import AttrloopError, InputError, Problem
from attrloop.components.gold.splits import make_splits
from attrloop.components.gold.survey import Survey
from attrloop.components.preflight.amount import check_amount
from attrloop.components.preflight.data import Catalogue, check_images, read_catalogue
from attrloop.components.preflight.finding import Finding
from attrloop.components.preflight.forecast import Forecast, check_budget, check_disk, check_work, forecast
from attrloop.components.preflight.model import check_engine, check_gpu, check_model
from attrloop.components.preflight.services import check_annotator
from attrloop.components.preflight.targets import check_targets
from attrloop.components.preflight.tracking import check_tracking
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import RunConfig
from attrloop.components.run.made_from import MadeFrom, photographs_seen
from attrloop.components.run.manifest import read_manifest
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.files import write_atomic
from attrloop.components.storage.opening import open_store
from attrloop.components.storage.probe import probe
from attrloop.components.storage.store import Store
from attrloop.components.tracking.server import runs_folder

VERSION = 1  # of the checks
_AGAIN = 20  # images to open when an earlier check has seen the same catalogue
_COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}


@dataclass(frozen=True)
class Examination:
    """What all checks found.

    Attributes:
        findings: one for each check.
        forecast: what the run will take; None when the data is faulty.
        survey: of the photographs, with the splits of the listings; None when the data is faulty.
    """

    findings: list[Finding]
    forecast: Forecast | None
    survey: Survey | None = None

    @property
    def problems(self) -> list[Problem]:
        """The problems of all findings."""
        return [problem for finding in self.findings for problem in finding.problems]


def check(workspace: str, promotes: bool = True) -> None:
    """Runs every check, prints a table and writes `preflight/report.json`.

    Each call checks again what may have changed outside. Only a few images are opened again when the catalogue is the
    same as at the last check.

    Args:
        workspace: URI of the run's workspace.
        promotes: whether the run ends with a promotion, which the ledger has to take.

    Raises:
        InputError: with all problems.
    """
    started = time.monotonic()
    ws = Workspace.open(workspace)
    known = _finished(ws, layout.PREFLIGHT, made_from())
    annotated = _finished(ws, layout.ANNOTATE, annotated_from())
    examination = examine(ws.config, ws.store.root, annotated=annotated, images=not known, promotes=promotes)
    PlainConsole().print(as_table(examination))
    report = {
        "findings": [
            {"check": f.name, "state": f.state, "detail": f.detail, "problems": [asdict(p) for p in f.problems]}
            for f in examination.findings
        ],
        "forecast": asdict(examination.forecast) if examination.forecast else None,
    }
    if not examination.problems:  # else nothing starts, and what is faulty must not be remembered
        make_splits(ws, examination.survey)
    try:
        artifact = Artifact.begin(ws, layout.PREFLIGHT, made_from())
    except (OSError, AttrloopError):  # a file of the catalogue is missing, which is among the problems
        artifact = Artifact.begin(ws, layout.PREFLIGHT, MadeFrom(VERSION))
    write_atomic(artifact.folder / layout.DETAILS, json.dumps(report, indent=1).encode())
    artifact.keep(layout.DETAILS)
    if examination.problems:
        raise InputError(examination.problems)
    artifact.finish(
        "preflight", {"checks": len(examination.findings), "seconds": time.monotonic() - started}, [], [layout.DETAILS]
    )


def examine(
    config: RunConfig,
    workspace: str = "",
    *,
    annotated: bool = False,
    images: bool = True,
    promotes: bool = True,
    runs: str = "runs",
) -> Examination:
    """Runs every check. Nothing stays written but what is known of the photographs of a workspace's run.

    Args:
        config: the run's config.
        workspace: URI of the run's workspace; "" when there is none yet: only `data.check_images` photographs are then
            looked at.
        annotated: whether the labels are there already, so that the annotator is not needed.
        images: whether to open as many images as the config says, or only a few.
        promotes: whether the run ends with a promotion.
        runs: path or URI of the folder that will hold the workspace when there is none yet.
    """
    store = open_store(workspace or f"{runs.rstrip('/')}/run")
    catalogue, findings = read_catalogue(config, store.root, -1 if workspace else config.data.check_images)
    findings.append(check_amount(config, catalogue))
    findings.append(check_images(config, catalogue, min(config.data.check_images, sys.maxsize if images else _AGAIN)))
    model, facts = check_model(config.model)
    found = forecast(config, catalogue, facts)
    findings += [
        check_budget(config, found),
        _endpoint(config, catalogue, annotated and _same_photographs(store, catalogue)),
        check_tracking(config, store.root),
        model,
        check_targets(config, catalogue),
        check_gpu(),
    ]
    place = Finding("workspace", store.root)
    with place.gathering(store.root):
        place.problems += store.check() or probe(store)
        # The promotions and, unless there is a server, what is tracked lie beside the workspace.
        beside = runs_folder(store.root)
        place.problems += [] if place.problems else probe(open_store(beside))
        if promotes and not place.problems:
            ledger = layout.promotions(config.tracking.model_name)
            place.problems += probe(open_store(f"{beside}/{ledger}"), creates_only=True)
    findings += [check_engine(config), check_work(config, found), check_disk(store.home, found), place]
    return Examination(findings, found, catalogue.survey)


def _endpoint(config: RunConfig, catalogue: Catalogue, annotated: bool) -> Finding:
    if annotated:
        return Finding("annotator", "not needed: the labels are there")
    if catalogue.plan is not None and not catalogue.asks:
        enough = "the given labels are enough" if config.annotate.max_calls else "annotate.max_calls is 0"
        return Finding("annotator", f"not needed: {enough}")
    return check_annotator(config)


def _same_photographs(store: Store, catalogue: Catalogue) -> bool:
    """Whether no photograph was replaced since the splits were made: labels belong to photographs."""
    return catalogue.survey is not None and photographs_seen(store) == catalogue.survey.digest


def made_from() -> MadeFrom:
    """What decides which photographs are checked."""
    return MadeFrom(VERSION, config=("data",), reads=("catalogue", "photographs", "values"))


def _finished(ws: Workspace, path: str, inputs: MadeFrom) -> bool:
    """Whether an artifact is finished, from these inputs."""
    try:
        manifest = read_manifest(ws.store, path)
        return manifest is not None and manifest.made_from == inputs.digests(ws)
    except (OSError, AttrloopError):
        return False


def as_table(examination: Examination) -> Table:
    """One row for each check; the problems themselves are in the error that follows."""
    table = Table("check", "", "found", title="preflight", title_justify="left")
    for finding in examination.findings:
        count = len(finding.problems)
        detail = (
            finding.detail
            if not count
            else f"{count} problem{'s' if count > 1 else ''}" + (f"; {finding.detail}" if finding.detail else "")
        )
        table.add_row(finding.name, Text(finding.state, _COLOURS[finding.state]), detail)
    return table
