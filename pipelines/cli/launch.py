"""What the commands do: from a config to a workspace, a run, a table and the places to look at."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attrloop.components.console import PlainConsole
from attrloop.components.digests import digest
from attrloop.components.errors import fail
from attrloop.components.run import layout
from attrloop.components.run.config import RunConfig
from attrloop.components.run.manifest import intact
from attrloop.components.run.overrides import override, resolve
from attrloop.components.storage.files import check_output
from attrloop.components.storage.opening import open_store
from attrloop.pipelines.definitions.compile import Name
from attrloop.pipelines.local.locks import exclusive
from attrloop.pipelines.local.runner import run_local


@dataclass(frozen=True)
class Launch:
    """What all commands that run a pipeline on this machine have in common.

    Attributes:
        config: the run config (YAML).
        runs: holds the workspaces.
        workspace: the run's folder; None to name it after the run and what decides its outcome.
        overrides: settings that replace the config's, by dotted name.
        fresh: sets an earlier run's folder aside and begins again.
    """

    config: Path
    runs: Path
    workspace: Path | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    fresh: bool = False

    def resolved(self) -> RunConfig:
        """The config with overrides."""
        return resolve(self.config, self.overrides)

    def folder(self, name: str) -> Path:
        """The run's folder, by default of this name.

        Raises:
            InputError: it cannot be written.
        """
        place = self.workspace or self.runs / name
        check_output(place, folder=True)
        return place.absolute()


def launch(job: Launch) -> None:
    """Runs the loop."""
    config = job.resolved()
    execute(config, job.folder(config.run_name), job.fresh)


def launch_demo(runs: Path, overrides: Mapping[str, Any], fresh: bool) -> None:
    """Runs the loop on the embedded world, whose annotator is a process of its own while the run lasts.

    Args:
        runs: holds the rendered catalogue and the workspace.
        overrides: settings that replace the demo's, by dotted name; `seed` also decides the catalogue.
        fresh: sets an earlier run's folder aside and begins again.
    """
    from attrloop.pipelines.demo.demo import demo_config
    from attrloop.pipelines.demo.products import write_catalogue
    from attrloop.pipelines.demo.stand_in import serving

    check_output(runs, folder=True)
    seed = override(demo_config(runs), overrides).seed
    catalogue = runs.absolute() / f"demo-catalogue-{seed}"
    with exclusive(catalogue, print):
        print(f"catalogue: {'rendered' if write_catalogue(catalogue, seed) else 'reusing'} {catalogue}")
    with serving(catalogue, seed=seed) as base_url:
        config = override(demo_config(catalogue, base_url), overrides)
        os.environ.setdefault(config.annotate.key_env, "demo")  # the stand-in annotator accepts any key
        execute(config, runs.absolute() / config.run_name, fresh)


def execute(config: RunConfig, workspace: Path, fresh: bool, name: Name = "loop", **arguments: Any) -> None:
    """Runs the loop, or what continues it, prints its results, and the workspace's path as the last line."""
    console = PlainConsole()
    console.print(
        f"{config.name}: at most {config.loop.iterations} iterations, seed {config.seed}, in {workspace}",
        soft_wrap=True,
    )
    run_local(config, workspace, console, fresh, name, **arguments)
    results(str(workspace), console)


def launch_continue(job: Launch, adapter: str) -> None:
    """Continues the loop from an adapter that was trained before.

    Args:
        job: what to run.
        adapter: see the component fetch_adapter; an alias is resolved to the version that it names now.
    """
    config = job.resolved()
    found, place = _started(job, "continue", config, adapter)
    execute(config, place, job.fresh, "continue", adapter=found)


def launch_predict(job: Launch, adapter: str, per_attribute: int, image_root: str) -> None:
    """Predicts a catalogue and prints a summary, and the workspace's path as the last line.

    Args:
        job: what to run.
        adapter: as `launch_continue`.
        per_attribute: predictions to review of each (vertical, attribute).
        image_root: see the component predict.
    """
    config, console = job.resolved(), PlainConsole()
    found, place = _started(job, "predict", config, adapter)
    console.print(f"{config.name}: {config.data.listings} by {found}, in {place}", soft_wrap=True)
    review = {"review_per_attribute": per_attribute, "review_image_root": image_root}
    run_local(config, place, console, job.fresh, "predict", adapter=found, **review)
    told = json.loads(intact(open_store(place), layout.REVIEW_SUMMARY).read_bytes())["all"]
    fractions = (
        f"mean agreement {told['confidence']:.1%}, unanimous {told['unanimous']:.1%}, "
        f"off the list {told['off_list']:.1%}"
    )
    for name, text in (
        ("answers", f"{told['predictions']:,}; {fractions}"),
        ("parquet", str(place / layout.CATALOGUE_PREDICTIONS)),
        ("review", str(place / layout.REVIEW)),
    ):
        console.print(f"{name:<9} {text}", soft_wrap=True)
    print(place)


def launch_annotate(job: Launch) -> None:
    """Labels a sample of a catalogue; prints the path of the labels as the last line."""
    config = job.resolved()
    place = job.folder(config.model_copy(update={"name": f"{config.name}-annotate"}).run_name)
    run_local(config, place, PlainConsole(), job.fresh, "annotate")
    print(place / layout.LABELS)


def _started(job: Launch, kind: str, config: RunConfig, adapter: str) -> tuple[str, Path]:
    """The adapter by a name that does not change its meaning, and the folder of a run that starts from it."""
    from attrloop.components.fetch_adapter.origin import pinned

    name = pinned(config, str(job.folder("run")), adapter)
    return name, job.folder(f"{config.name}-{kind}-{digest(config.run_name, name)[:8]}")


def rewrite_report(workspace: str) -> None:
    """Writes report and summary of a run again, also of one that was cut short.

    Args:
        workspace: folder or URI of the run.

    Raises:
        InputError: it is not a run's workspace, or nothing was evaluated in it yet.
    """
    from attrloop.components.report.report import report

    root = of_a_run(workspace)
    report(root)
    results(root, PlainConsole())


def roll_back(workspace: str, to: str, reason: str) -> None:
    """Makes an earlier version of a run's model champion again and says which it is.

    Args:
        workspace: folder or URI of any run of the model.
        to: the version's number; "" for the one that the present champion replaced.
        reason: why, for the record.

    Raises:
        AttrloopError: not a run, nothing to go back to, no such version, the tracking server is down.
    """
    from attrloop.components.promote.promote import rollback

    entry = rollback(of_a_run(workspace), to, reason)
    print(f"champion: version {entry.after}")


def results(workspace: str, console: PlainConsole) -> None:
    """Prints the table per vertical, its limits, where to look further, and the workspace's path as the last line."""
    from attrloop.components.report.gold import left_out, unknown
    from attrloop.components.report.report import print_table
    from attrloop.components.results.reader import Results
    from attrloop.components.run.workspace import Workspace
    from attrloop.components.tracking.server import resolve_uri, shown_uri

    print_table(workspace, console)
    found = Results.of(workspace)
    for line in (*left_out(found), *unknown(found)):
        console.print(f"{'gold':<9} {line}", soft_wrap=True)
    uri = resolve_uri(Workspace.open(workspace).config, workspace)
    tracked = shown_uri(uri) if uri.startswith("http") else f"mlflow ui --backend-store-uri {shown_uri(uri)}"
    for name, place in (
        ("report", f"{workspace}/{layout.REPORT}"),
        ("tracking", tracked),
        ("summary", f"{workspace}/{layout.SUMMARY}"),
    ):
        console.print(f"{name:<9} {place}", soft_wrap=True)
    print(workspace)


def of_a_run(workspace: str) -> str:
    """The root of a run's workspace.

    Raises:
        InputError: it is none.
    """
    store = open_store(workspace)
    if not store.exists(layout.CONFIG):
        raise fail(
            workspace,
            "not the folder of a run",
            "Give the path that `attrloop run` prints last, or the URI of a workspace",
        )
    return store.root
