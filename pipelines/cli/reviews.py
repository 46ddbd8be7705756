"""The commands of `attrloop review`."""

from pathlib import Path
from typing import Annotated

import typer

from attrloop.pipelines.cli.options import Config, ImageRoot

reviews = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Answers that a person should look at, to Label Studio and back."
)
Run = Annotated[str, typer.Argument(help="Folder or URI of a prediction.", metavar="RUN")]
PerAttribute = Annotated[
    int, typer.Option(min=1, help="Answers of each vertical and attribute, least confident first.")
]
Project = Annotated[
    str, typer.Option(help="Name of the projects in Label Studio.  [default: the config's]", show_default=False)
]
Labels = Annotated[
    Path,
    typer.Option("--output", "-o", help="Labels (JSONL), for data.labels. What the file holds already stays."),
]


@reviews.command("export")
def export(
    workspace: Run,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path("review"),
    per_attribute: PerAttribute = 20,
    image_root: ImageRoot = "",
) -> None:
    """Write what people are to review as Label Studio tasks (tasks.json) and labelling interface (config.xml).

    These are the least certain answers, and some listings drawn for gold.
    """
    from attrloop.pipelines.cli.review import export_review

    export_review(workspace, output, per_attribute, image_root)


@reviews.command("push")
def push(workspace: Run, project: Project = "", per_attribute: PerAttribute = 20, image_root: ImageRoot = "") -> None:
    """Put what people are to review into projects of the Label Studio server at LABEL_STUDIO_URL.

    The token is read from LABEL_STUDIO_API_KEY. What the projects ask already is not asked twice.
    """
    from attrloop.pipelines.cli.review import push_review

    push_review(workspace, project, per_attribute, image_root)


@reviews.command("pull")
def pull(config: Config, project: Project = "", output: Labels = Path("labels.jsonl")) -> None:
    """Add the answers on the Label Studio server at LABEL_STUDIO_URL to the labels.

    The token is read from LABEL_STUDIO_API_KEY.
    """
    from attrloop.pipelines.cli.review import pull_review

    pull_review(config, project, output)


@reviews.command("import")
def import_(
    exported: Annotated[
        Path, typer.Argument(help="What Label Studio exported, as JSON, JSON_MIN or CSV.", metavar="EXPORT")
    ],
    config: Config,
    output: Labels = Path("labels.jsonl"),
) -> None:
    """Add reviewed tasks to the labels, together with the labels in the config's data.labels."""
    from attrloop.pipelines.cli.review import import_review

    import_review(exported, config, output)
