"""The command line. Commands import what they need when they run, so that help and compilation take no time."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from attrloop.pipelines.cli import cluster
from attrloop.pipelines.cli.options import (
    RUNS,
    Adapter,
    Config,
    Folder,
    Fresh,
    ImageRoot,
    Iterations,
    Runs,
    Seed,
    Set,
    overrides,
)
from attrloop.pipelines.cli.reviews import reviews

app = typer.Typer(
    name="attrloop", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
app.add_typer(reviews, name="review")


@app.callback()
def root() -> None:
    """Makes compact vision-language models good at product attributes, from few labels and many unlabelled listings."""


@app.command()
def demo(
    runs: Runs = RUNS, settings: Set = None, iterations: Iterations = None, seed: Seed = None, fresh: Fresh = False
) -> None:
    """Run the loop on the embedded world: rendered products, a tiny model, a stand-in annotator. Minutes on a CPU."""
    from attrloop.pipelines.cli.launch import launch_demo

    launch_demo(runs, overrides(settings, seed=seed, iterations=iterations), fresh)


@app.command()
def run(
    config: Config,
    *,
    settings: Set = None,
    runs: Runs = RUNS,
    workspace: Folder = None,
    iterations: Iterations = None,
    seed: Seed = None,
    fresh: Fresh = False,
) -> None:
    """Run the loop on your catalogue. The same command again reuses what is finished."""
    from attrloop.pipelines.cli.launch import Launch, launch

    launch(Launch(config, runs, workspace, overrides(settings, seed=seed, iterations=iterations), fresh))


@app.command()
def annotate(
    config: Config, settings: Set = None, runs: Runs = RUNS, workspace: Folder = None, fresh: Fresh = False
) -> None:
    """Label a sample of your catalogue and stop there."""
    from attrloop.pipelines.cli.launch import Launch, launch_annotate

    launch_annotate(Launch(config, runs, workspace, overrides(settings), fresh))


@app.command("continue")
def continue_(
    config: Config,
    *,
    adapter: Adapter = "",
    settings: Set = None,
    runs: Runs = RUNS,
    workspace: Folder = None,
    iterations: Iterations = None,
    fresh: Fresh = False,
) -> None:
    """Run further iterations from an adapter that was trained before, on the listings of the config."""
    from attrloop.pipelines.cli.launch import Launch, launch_continue

    launch_continue(Launch(config, runs, workspace, overrides(settings, iterations=iterations), fresh), adapter)


@app.command()
def predict(
    config: Config,
    *,
    adapter: Adapter = "",
    listings: Annotated[
        str, typer.Option(help="The catalogue, JSONL or Parquet.  [default: the config's]", show_default=False)
    ] = "",
    review: Annotated[
        int,
        typer.Option(
            min=0,
            help="The least confident answers of each attribute to queue for review, besides those drawn for gold.",
        ),
    ] = 20,
    image_root: ImageRoot = "",
    settings: Set = None,
    runs: Runs = RUNS,
    workspace: Folder = None,
    fresh: Fresh = False,
) -> None:
    """Answer every attribute of every listing, with confidence. The same command again continues where it stopped."""
    from attrloop.pipelines.cli.launch import Launch, launch_predict

    job = Launch(config, runs, workspace, overrides(settings, listings=listings), fresh)
    launch_predict(job, adapter, review, image_root)


app.command("compile")(cluster.compile_)
app.command()(cluster.submit)
app.command()(cluster.schedule)


@app.command()
def report(workspace: Annotated[str, typer.Argument(help="Folder or URI of a run.", metavar="RUN")]) -> None:
    """Write a run's report again and print its results."""
    from attrloop.pipelines.cli.launch import rewrite_report

    rewrite_report(workspace)


@app.command()
def rollback(
    workspace: Annotated[str, typer.Argument(help="Folder or URI of any run of the model.", metavar="RUN")],
    to: Annotated[
        str,
        typer.Option(
            help="Version to make champion.  [default: the one that the champion replaced]", show_default=False
        ),
    ] = "",
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
) -> None:
    """Make an earlier version champion again."""
    from attrloop.pipelines.cli.launch import roll_back

    roll_back(workspace, to, reason)


@app.command()
def doctor(
    config: Annotated[
        Path | None, typer.Argument(help="A run config, which is checked as preflight does.", metavar="CONFIG")
    ] = None,
    settings: Set = None,
    runs: Annotated[
        str, typer.Option("--runs", help="Where the runs will lie, which is tried: a folder, or one in a bucket.")
    ] = "runs",
) -> None:
    """Check this machine, and a config, and say what to do.

    Looks at versions, device, disk, keys, tracking and the model cache; with a config, at all that preflight checks.
    """
    from attrloop.pipelines.cli.doctor import diagnose

    if settings and config is None:
        raise typer.BadParameter("there is no config whose settings could be replaced", param_hint="--set")
    raise typer.Exit(0 if diagnose(config, overrides(settings), runs) else 1)


def main() -> None:
    """Runs the command line.

    Exit codes: 0 for success, 1 for a failure that is explained on stderr, 2 for wrong usage, 130 when interrupted.
    """
    from attrloop.components.errors import AttrloopError

    try:
        app(standalone_mode=True)
    except AttrloopError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("Interrupted; the same command again continues from here.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
