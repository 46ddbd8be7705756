"""The commands. They import what they need when they run, so that help and compilation take no time."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from attrloop.components.base_images import PLACEHOLDER
from attrloop.pipelines.cli.options import (
    RUNS,
    Adapter,
    Auth,
    Compiled,
    Config,
    Experiment,
    Folder,
    Fresh,
    Host,
    ImageRoot,
    Iterations,
    Namespace,
    Revision,
    RunAs,
    Runs,
    RunsUri,
    Seed,
    Sent,
    Set,
    SetAny,
    named_values,
    overrides,
)
from attrloop.pipelines.definitions.cluster import Cluster, no_images
from attrloop.pipelines.definitions.compile import Name, compile_to

app = typer.Typer(
    name="attrloop", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
reviews = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Answers that a person should look at, to Label Studio and back."
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
        int, typer.Option(min=0, help="The least confident answers of each attribute to queue for review.")
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


@reviews.command("export")
def export(
    workspace: Annotated[str, typer.Argument(help="Folder or URI of a prediction.", metavar="RUN")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path("review"),
    per_attribute: Annotated[
        int, typer.Option(min=1, help="Answers of each vertical and attribute, least confident first.")
    ] = 20,
    image_root: ImageRoot = "",
) -> None:
    """Write Label Studio tasks (tasks.json) and the labelling interface (config.xml) for the least certain answers."""
    from attrloop.pipelines.cli.launch import export_review

    export_review(workspace, output, per_attribute, image_root)


@reviews.command("import")
def import_(
    exported: Annotated[Path, typer.Argument(help="What Label Studio exported, as JSON.", metavar="EXPORT")],
    config: Config,
    output: Annotated[Path, typer.Option("--output", "-o", help="Labels to write (JSONL), for data.labels.")] = Path(
        "labels.jsonl"
    ),
) -> None:
    """Turn reviewed tasks into labels, together with the labels in the config's data.labels."""
    from attrloop.pipelines.cli.launch import import_review

    import_review(exported, config, output)


@app.command("compile")
def compile_(
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The YAML to write.")] = Path("attribute-loop.yaml"),
    pipeline: Annotated[Name, typer.Option(help="Which pipeline.")] = "loop",
    max_iterations: Annotated[
        int, typer.Option(min=0, max=5, help="How many iterations the pipeline has room for.")
    ] = 3,
    retries: Annotated[
        int, typer.Option(min=0, help="New attempts for each step; each continues where the last one stopped.")
    ] = 3,
    timeout_hours: Annotated[
        float, typer.Option(min=0.1, help="Hours after which a pod is stopped; a new attempt continues.")
    ] = 24,
    queue: Annotated[
        str, typer.Option(help="Kueue's local queue for pods with accelerators.  [default: none]", show_default=False)
    ] = "",
    models_claim: Annotated[
        str,
        typer.Option(help="Volume claim with base models, mounted at /models.  [default: none]", show_default=False),
    ] = "",
    key_env: Annotated[
        str, typer.Option(help="Environment variable of the annotator's key, and its name in the secret.")
    ] = "OPENAI_API_KEY",
) -> None:
    """Write a pipeline as YAML for a cluster.

    The environment variables ATTRLOOP_{WORKER,TRAINER,SAMPLER}_IMAGE name the images of its steps: see images/.
    """
    cluster = Cluster(
        retries=retries, timeout_hours=timeout_hours, queue=queue, models_claim=models_claim, key_env=key_env
    )
    compile_to(output, pipeline, max_iterations, cluster)
    if PLACEHOLDER in output.read_text(encoding="utf-8"):
        typer.echo(no_images(str(output)), err=True)
    typer.echo(output)


@app.command()
def submit(
    config: Sent = "",
    *,
    settings: SetAny = None,
    pipeline: Compiled = None,
    runs: RunsUri = "",
    host: Host = "",
    namespace: Namespace = "",
    auth: Auth = "",
    experiment: Experiment = "attrloop",
    run_as: RunAs = "",
    revision: Revision = "",
    data_digest: Annotated[
        str, typer.Option(help="Digest of the data.  [default: of the files that the config names]", show_default=False)
    ] = "",
    key: Annotated[
        str,
        typer.Option(
            help="Joins the run with the same key.  [default: digest of data, version, config, parameters]",
            show_default=False,
        ),
    ] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run to its end.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait at most; the run goes on.", show_default=False)
    ] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between looks at the run.")] = 10,
) -> None:
    """Run a pipeline on a cluster.

    The same command again joins the run that it started, or makes another attempt if that failed.

    Exit codes: 0 started (with --wait: succeeded), 1 failed or not started, 2 wrong usage, and with --wait
    3 cancelled or skipped, 4 still running when the time was up, 5 lost sight of while it ran.
    """
    from attrloop.pipelines.submit.submission import Wanted
    from attrloop.pipelines.submit.submit import Destination
    from attrloop.pipelines.submit.submit import submit as send

    wanted = Wanted(config, pipeline, named_values(settings), runs, revision, data_digest, key)
    raise typer.Exit(send(wanted, Destination(host, namespace, auth, experiment, run_as), wait, timeout, every))


@app.command()
def schedule(
    config: Sent = "",
    *,
    cron: Annotated[
        str,
        typer.Option(
            help="When: minute, hour, day, month, weekday, e.g. '0 6 * * 1'. With six fields, the first is seconds."
        ),
    ],
    name: Annotated[
        str, typer.Option(help="Name of the recurring run.  [default: the config's]", show_default=False)
    ] = "",
    settings: SetAny = None,
    pipeline: Compiled = None,
    runs: RunsUri = "",
    host: Host = "",
    namespace: Namespace = "",
    auth: Auth = "",
    experiment: Experiment = "attrloop",
    run_as: RunAs = "",
    revision: Revision = "",
) -> None:
    """Run a pipeline on a cluster again and again.

    The same command again changes nothing; a different one with the same name replaces the recurring run.
    """
    from attrloop.pipelines.submit.submission import Wanted
    from attrloop.pipelines.submit.submit import Destination
    from attrloop.pipelines.submit.submit import schedule as plan

    plan(
        Wanted(config, pipeline, named_values(settings), runs, revision),
        Destination(host, namespace, auth, experiment, run_as),
        cron,
        name,
    )


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
) -> None:
    """Check this machine, and a config, and say what to do.

    Looks at versions, device, disk, keys, tracking and the model cache; with a config, at all that preflight checks.
    """
    from attrloop.pipelines.cli.doctor import diagnose

    if settings and config is None:
        raise typer.BadParameter("there is no config whose settings could be replaced", param_hint="--set")
    raise typer.Exit(0 if diagnose(config, overrides(settings)) else 1)


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
