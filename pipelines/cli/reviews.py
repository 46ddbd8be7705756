"""The commands of `attrloop review`."""

from pathlib import Path
from typing import Annotated

import typer

from attrloop.pipelines.cli.options import Config, ImageRoot

reviews = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Answers that a person should look at, to Label Studio and back."
)


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
    from attrloop.pipelines.cli.review import export_review

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
    from attrloop.pipelines.cli.review import import_review

    import_review(exported, config, output)
