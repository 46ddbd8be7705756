"""Options that several commands have in common, and how settings given on the command line are read."""

from pathlib import Path
from typing import Annotated, Any

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
Fresh = Annotated[bool, typer.Option("--fresh", help="Set an earlier folder of this run aside and begin again.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="A setting in place of the config's, by its dotted name, e.g. sample.temperature=0.7. May be repeated.",
        metavar="NAME=VALUE",
        show_default=False,
    ),
]
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
        help="models:/NAME@ALIAS, models:/NAME/VERSION, a run's or an adapter's folder.  [default: the champion]",
        show_default=False,
    ),
]
ImageRoot = Annotated[
    str,
    typer.Option(
        help="URL at which Label Studio finds the listings' folder.  [default: local images are put into the tasks]",
        show_default=False,
    ),
]
RUNS = Path("runs")

# Options of submit and schedule.
Sent = Annotated[
    str, typer.Argument(help="Run config (YAML); it is put into the workspace.", metavar="CONFIG", show_default=False)
]
SetAny = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="A setting by its dotted name, e.g. sample.temperature=0.7, or a pipeline's parameter. May be repeated.",
        metavar="NAME=VALUE",
        show_default=False,
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
        help="token:VARIABLE or cookie:VARIABLE (of the environment), iap:CLIENT_ID, service-account[:FILE].  "
        "[default: none]",
        envvar="ATTRLOOP_AUTH",
        show_default=False,
    ),
]
Experiment = Annotated[str, typer.Option(help="Kubeflow experiment that groups the runs.")]
RunAs = Annotated[
    str, typer.Option(help="Kubernetes service account of the steps.  [default: the server's]", show_default=False)
]


def named_values(settings: list[str] | None) -> dict[str, str]:
    """The texts of `--set NAME=VALUE` by name.

    Raises:
        BadParameter: not of that form, or a name is given twice.
    """
    values: dict[str, str] = {}
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{setting!r} is not NAME=VALUE", param_hint="--set")
        if name in values:
            raise typer.BadParameter(f"{name} is given twice", param_hint="--set")
        values[name] = value
    return values


def overrides(settings: list[str] | None, **options: Any) -> dict[str, Any]:
    """The settings that a command line gives, by dotted name.

    Args:
        settings: of `--set`.
        options: values of the options that stand for a setting, by the option's name (`seed`, `iterations`,
            `listings`); None, or "", where it is not given.

    Raises:
        BadParameter: as `named_values`, and for a setting that is given by an option as well.
    """
    from attrloop.components.run.overrides import read_texts

    values = read_texts(named_values(settings))
    for option, value in options.items():
        name = _STANDS_FOR[option]
        if value is None or value == "":
            continue
        if name in values:
            raise typer.BadParameter(f"{name} is given twice, by --{option} too", param_hint="--set")
        values[name] = value
    return values


_STANDS_FOR = {"seed": "seed", "iterations": "loop.iterations", "listings": "data.listings"}
