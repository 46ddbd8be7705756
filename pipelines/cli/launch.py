"""What the commands do: from a config to a workspace, a run, a table and the places to look at."""

import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console

from attrloop.components.digests import digest
from attrloop.components.errors import fail
from attrloop.components.preflight.prepare import resolve, run_name
from attrloop.components.run.config import RunConfig
from attrloop.components.storage.store import open_store
from attrloop.pipelines.definitions.compile import Name
from attrloop.pipelines.local.locks import exclusive
from attrloop.pipelines.local.runner import run_local


def launch(
    config: Path, runs: Path, workspace: Path | None, seed: int | None, iterations: int | None, fresh: bool
) -> None:
    """Runs the loop from a config file.

    Args:
        config: the run config (YAML).
        runs: holds the workspaces.
        workspace: the run's folder; by default it is named after the run and the digest of its config.
        seed: replaces the config's.
        iterations: replaces `loop.iterations`.
        fresh: begins again.
    """
    resolved = resolve(config, loop_seed=_or_unset(seed), loop_iterations=_or_unset(iterations))
    execute(resolved, (workspace or runs / run_name(resolved)).absolute(), fresh)


def launch_demo(runs: Path, seed: int, iterations: int | None, fresh: bool) -> None:
    """Runs the loop on the embedded world, whose teacher is a process of its own for as long as the run takes.

    Args:
        runs: holds the rendered catalogue and the workspace.
        seed: decides the catalogue and every random choice of the run.
        iterations: replaces the demo's number of iterations.
        fresh: begins again.
    """
    from attrloop.pipelines.demo.demo import demo_config
    from attrloop.pipelines.demo.products import write_catalogue
    from attrloop.pipelines.demo.stand_in import serving

    catalogue = runs.absolute() / f"demo-catalogue-{seed}"
    with exclusive(catalogue, print):
        print(f"catalogue: {'rendered' if write_catalogue(catalogue, seed) else 'reusing'} {catalogue}")
    with serving(catalogue, seed=seed) as base_url:
        config = demo_config(catalogue, base_url, seed)
        loop = config.loop if iterations is None else config.loop.model_copy(update={"iterations": iterations})
        config = config.model_copy(update={"loop": loop})
        os.environ.setdefault(config.annotate.key_env, "demo")  # the stand-in teacher takes any key
        execute(config, runs.absolute() / run_name(config), fresh)


def execute(config: RunConfig, workspace: Path, fresh: bool, name: Name = "loop", **arguments: Any) -> None:
    """Runs the loop, or what continues it, in a workspace, prints its results, and the workspace's path as the last line."""
    console = Console()
    console.print(
        f"{config.name}: at most {config.loop.iterations} iterations, seed {config.seed}, in {workspace}",
        soft_wrap=True,
        highlight=False,
    )
    run_local(config, workspace, console, fresh, name, **arguments)
    results(str(workspace), console)


def launch_continue(
    config: Path, adapter: str, runs: Path, workspace: Path | None, iterations: int | None, fresh: bool
) -> None:
    """Continues the loop from an adapter that was trained before.

    Args:
        config: the run config (YAML).
        adapter: see the component fetch_adapter; an alias is the version that it stands for now.
        runs: holds the workspaces.
        workspace: the run's folder; by default it is named after config and adapter.
        iterations: replaces `loop.iterations`.
        fresh: begins again.
    """
    resolved = resolve(config, loop_iterations=_or_unset(iterations))
    found, place = _started("continue", resolved, adapter, runs, workspace)
    execute(resolved, place, fresh, "continue", adapter=found)


def launch_predict(
    config: Path,
    adapter: str,
    listings: str,
    per_attribute: int,
    image_root: str,
    runs: Path,
    workspace: Path | None,
    fresh: bool,
) -> None:
    """Predicts a catalogue and prints what came of it, and the workspace's path as the last line.

    Args:
        config: the run config (YAML).
        adapter: as `launch_continue`.
        listings: the catalogue; "" for the config's.
        per_attribute: predictions to review of each (vertical, attribute).
        image_root: see the component predict.
        runs: holds the workspaces.
        workspace: the prediction's folder; by default it is named after config and adapter.
        fresh: begins again.
    """
    resolved, console = resolve(config, data_listings=listings), Console()
    found, place = _started("predict", resolved, adapter, runs, workspace)
    console.print(f"{resolved.name}: {resolved.data.listings} by {found}, in {place}", soft_wrap=True, highlight=False)
    run_local(
        resolved,
        place,
        console,
        fresh,
        "predict",
        adapter=found,
        review_per_attribute=per_attribute,
        review_image_root=image_root,
    )
    told = json.loads((place / "review" / "summary.json").read_text())["all"]
    shares = f"mean agreement {told['confidence']:.1%}, unanimous {told['unanimous']:.1%}, off the list {told['off_list']:.1%}"
    for name, text in (
        ("answers", f"{told['predictions']:,}; {shares}"),
        ("parquet", str(place / "predictions")),
        ("review", str(place / "review")),
    ):
        console.print(f"{name:<9} {text}", soft_wrap=True, highlight=False)
    print(place)


def launch_annotate(config: Path, runs: Path, workspace: Path | None, fresh: bool) -> None:
    """Labels a catalogue's sample; prints the path of the labels as the last line."""
    resolved = resolve(config)
    place = (workspace or runs / run_name(resolved.model_copy(update={"name": f"{resolved.name}-annotate"}))).absolute()
    run_local(resolved, place, Console(), fresh, "annotate")
    print(place / "annotate" / "labels.jsonl")


def _started(kind: str, config: RunConfig, adapter: str, runs: Path, workspace: Path | None) -> tuple[str, Path]:
    """The adapter by a name that stays, and the folder of a run that starts from it."""
    from attrloop.components.fetch_adapter.origin import pinned

    name = pinned(config, str((workspace or runs / "run").absolute()), adapter)
    place = workspace or runs / f"{config.name}-{kind}-{digest(run_name(config), name)[:8]}"
    return name, place.absolute()


def export_review(workspace: str, output: Path, per_attribute: int, image_root: str) -> None:
    """Writes the review queue of a prediction as Label Studio projects and prints their folders.

    Raises:
        InputError: not the folder of a finished prediction.
    """
    from attrloop.components.predict.queue import export, select
    from attrloop.components.run.workspace import Workspace

    ws = Workspace.open(_of_a_run(workspace))
    for project in export(ws, select(ws, per_attribute), output, image_root):
        print(output / project)


def import_review(exported: Path, config: Path, output: Path) -> None:
    """Turns an export of Label Studio into labels; prints what came of it, and the file as the last line.

    Raises:
        InputError: see `label_studio.import_labels`.
    """
    from attrloop.components.predict.label_studio import import_labels

    found = import_labels(exported, resolve(config), output)
    disputed = (
        f", {len(found.disputed)} left out where annotators disagree: {', '.join(found.disputed[:5])}"
        if found.disputed
        else ""
    )
    print(f"{len(found.labels)} labels reviewed, {found.skipped} tasks without an answer{disputed}")
    print(output)


def rewrite_report(workspace: str) -> None:
    """Writes report and summary of a run again, also of one that was cut short.

    Args:
        workspace: folder or URI of the run.

    Raises:
        InputError: it is not a run's workspace, or nothing was evaluated in it yet.
    """
    from attrloop.components.evaluate.report import render

    root = _of_a_run(workspace)
    render(root)
    results(root, Console())


def roll_back(workspace: str, to: str, reason: str) -> None:
    """Makes an earlier version of a run's model champion again and says which it is.

    Args:
        workspace: folder or URI of any run of the model.
        to: the version's number; "" for the one that the present champion replaced.
        reason: why, for the record.

    Raises:
        AttrloopError: not a run, nothing to go back to, no such version, the tracking server is away.
    """
    from attrloop.components.promote.promote import rollback

    entry = rollback(_of_a_run(workspace), to, reason)
    print(f"champion: version {entry.after}")


def results(workspace: str, console: Console) -> None:
    """Prints the table per vertical, where to look further, and the workspace's path as the last line."""
    from attrloop.components.evaluate.report import print_table
    from attrloop.components.run.workspace import Workspace
    from attrloop.components.tracking.server import resolve_uri, shown_uri

    print_table(workspace, console)
    uri = resolve_uri(Workspace.open(workspace).config, workspace)
    tracked = shown_uri(uri) if uri.startswith("http") else f"mlflow ui --backend-store-uri {shown_uri(uri)}"
    for name, place in (
        ("report", f"{workspace}/report.html"),
        ("tracking", tracked),
        ("summary", f"{workspace}/summary.json"),
    ):
        console.print(f"{name:<9} {place}", soft_wrap=True, highlight=False)
    print(workspace)


def _of_a_run(workspace: str) -> str:
    from attrloop.components.run import layout

    store = open_store(workspace)
    if not store.exists(layout.CONFIG):
        raise fail(
            workspace,
            "not the folder of a run",
            "Give the path that `attrloop run` prints last, or the URI of a workspace",
        )
    return store.root


def _or_unset(value: int | None) -> int:
    return -1 if value is None else value
