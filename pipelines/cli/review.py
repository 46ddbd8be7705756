"""What the commands of `attrloop review` do: answers go to Label Studio, and labels come back."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attrloop.components.run.overrides import resolve
from attrloop.pipelines.cli.launch import of_a_run

if TYPE_CHECKING:
    from attrloop.components.predict.label_studio import Imported


def export_review(workspace: str, output: Path, per_attribute: int, image_root: str) -> None:
    """Writes the review queue of a prediction as Label Studio projects and prints their folders.

    Raises:
        InputError: not the folder of a finished prediction, or an output that cannot be written.
    """
    from attrloop.components.predict.queue import export, select
    from attrloop.components.run.workspace import Workspace
    from attrloop.components.storage.files import check_output

    check_output(output, folder=True)
    ws = Workspace.open(of_a_run(workspace))
    for project in export(ws, select(ws, per_attribute), output, image_root):
        print(output / project)


def push_review(workspace: str, project: str, per_attribute: int, image_root: str) -> None:
    """Puts the review queue of a prediction into projects of a Label Studio server; prints what is new, and where.

    Raises:
        InputError: not the folder of a finished prediction, or as `label_studio_server.push`.
        AttrloopError: as `label_studio_server.push`.
    """
    from attrloop.components.predict.label_studio_server import push
    from attrloop.components.predict.queue import projects_of, select
    from attrloop.components.run.workspace import Workspace

    ws = Workspace.open(of_a_run(workspace))
    for done in push(projects_of(ws, select(ws, per_attribute), image_root), project or ws.config.name):
        present = f", {done.present} were there already" if done.present else ""
        print(f"{done.title}: {done.added} tasks added{present}", file=sys.stderr)
        print(done.url)


def pull_review(config: Path, project: str, output: Path) -> None:
    """Adds the answers in projects of a Label Studio server to the labels; prints as `import_review`.

    Raises:
        InputError: as `label_studio_server.pull`.
        AttrloopError: as `label_studio_server.pull`.
    """
    from attrloop.components.predict.label_studio_server import pull

    resolved = resolve(config)
    _told(pull(project or resolved.name, resolved, output), output)


def import_review(exported: Path, config: Path, output: Path) -> None:
    """Adds an export of Label Studio to the labels; prints the counts, and the file as the last line.

    Raises:
        InputError: see `label_studio.import_labels`.
    """
    from attrloop.components.predict.label_studio import import_labels

    _told(import_labels(exported, resolve(config), output), output)


def _told(found: "Imported", output: Path) -> None:
    """Names what gave no label or another one on standard error, then prints the counts and the file."""
    for problem in found.unread:
        print(f"not read: {problem}", file=sys.stderr)
    for name in found.changed:
        print(f"changed: {name}", file=sys.stderr)
    for name in found.disputed:
        print(f"disputed, no label is taken over: {name}", file=sys.stderr)
    counts = [
        f"{len(found.labels)} labels reviewed",
        f"{found.skipped} tasks without an answer",
        f"{len(found.changed)} labels changed",
        f"{len(found.disputed)} disputed",
        f"{len(found.unread)} not read",
    ]
    print(", ".join(count for k, count in enumerate(counts) if k < 2 or not count.startswith("0 ")))
    print(output)
