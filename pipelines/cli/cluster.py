"""The commands that a cluster needs: compile, submit and schedule."""

from pathlib import Path
from typing import Annotated

import typer

from attrloop.components.base_images import PLACEHOLDER
from attrloop.pipelines.cli.options import (
    Auth,
    Compiled,
    Experiment,
    Host,
    Namespace,
    Revision,
    RunAs,
    RunsUri,
    Sent,
    SetAny,
    named_values,
)
from attrloop.pipelines.definitions.cluster import Cluster, no_images
from attrloop.pipelines.definitions.compile import Name, compile_to


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
