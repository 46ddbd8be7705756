"""Options that several commands of the command line share."""

from pathlib import Path
from typing import Annotated

import typer

Runs = Annotated[Path, typer.Option("--runs", help="Folder that holds the runs' workspaces.")]
Seed = Annotated[
    int | None,
    typer.Option(min=0, help="Every random choice derives from it.  [default: the config's]", show_default=False),
]
Iterations = Annotated[
    int | None,
    typer.Option(
        min=0, max=5, help="At most this many iterations after SFT.  [default: the config's]", show_default=False
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Set the folder of the same run aside and begin again.")]
Config = Annotated[Path, typer.Argument(help="Run config (YAML); see examples/.", metavar="CONFIG")]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--workspace", help="Folder of the run.  [default: <runs>/<name>-<digest of the config>]", show_default=False
    ),
]
Adapter = Annotated[
    str,
    typer.Option(
        help="models:/NAME@ALIAS, models:/NAME/VERSION, the folder of a run, or of an adapter in one.  [default: the champion]",
        show_default=False,
    ),
]
ImageRoot = Annotated[
    str,
    typer.Option(
        help="URL at which Label Studio finds the folder of the listings.  [default: local images are put into the tasks]",
        show_default=False,
    ),
]
RUNS = Path("runs")

# of submit and schedule
Sent = Annotated[
    str, typer.Argument(help="Run config (YAML); it is put into the workspace.", metavar="CONFIG", show_default=False)
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="A parameter of the pipeline; may be repeated.", metavar="NAME=VALUE", show_default=False
    ),
]
Compiled = Annotated[
    Path | None, typer.Option(help="A compiled pipeline (YAML).  [default: the loop, compiled now]", show_default=False)
]
RunsUri = Annotated[
    str,
    typer.Option("--runs", help="Folder of the runs' workspaces in a bucket: gs:// or s3://.", envvar="ATTRLOOP_RUNS"),
]
Revision = Annotated[
    str,
    typer.Option(
        help="Names the pipeline's version.  [default: the git commit]", envvar="ATTRLOOP_REVISION", show_default=False
    ),
]
Host = Annotated[str, typer.Option(help="URL of the Kubeflow Pipelines server.", envvar="KF_PIPELINES_ENDPOINT")]
Namespace = Annotated[str, typer.Option(help="Namespace on a multi-user server.")]
Auth = Annotated[
    str,
    typer.Option(
        help="token:VARIABLE or cookie:VARIABLE (environment variables that hold them), iap:CLIENT_ID, service-account[:FILE].  [default: none]",
        envvar="ATTRLOOP_AUTH",
        show_default=False,
    ),
]
Experiment = Annotated[str, typer.Option(help="Kubeflow experiment that groups the runs.")]
RunAs = Annotated[
    str, typer.Option(help="Kubernetes service account of the steps.  [default: the server's]", show_default=False)
]
