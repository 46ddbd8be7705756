"""Predictions as Label Studio tasks.

A task shows all images of a listing, asks for one attribute, offers its closed list, and has the prediction selected,
unless the answer may become gold: then nothing of the prediction is shown.
The choices come with each task, so one project serves all attributes that take one value, and a second the others.
"""

import base64
import html
import json
import os
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from attrloop.components.catalogue.records import Listing
from attrloop.components.catalogue.schema import SEPARATOR, Attribute
from attrloop.components.predict.interface import ANSWER, REASON, labelling_page
from attrloop.components.predict.votes import QueuedPrediction
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage import inputs
from attrloop.components.storage.files import explained_output, write_atomic

PROJECTS = {False: "one-value", True: "several-values"}
_SIDE = 768  # pixels: the longest side of an image that is put into the task itself
_OF_A_HOST = ("http://", "https://")
_UNSEEN = "Your answer may become gold, so the model's answer shall not sway you."


@dataclass
class Project:
    """What a project of Label Studio is made of.

    Attributes:
        page: the labelling interface, XML.
        tasks: in the form that Label Studio imports.
    """

    page: str
    tasks: list[dict[str, Any]] = field(default_factory=list)


def projects(
    ws: Workspace, items: Iterable[tuple[Listing, QueuedPrediction]], image_root: str, model: str
) -> dict[str, Project]:
    """The projects that ask people about predictions.

    Args:
        ws: the workspace of the prediction.
        items: what to ask about.
        image_root: where Label Studio finds the folder of the listings file, e.g. `/data/local-files/?d=photos/`. ""
            puts local images into the tasks; those of a bucket are left to Label Studio's cloud storage. URLs stay as
            they are.
        model: the name of the model that predicted.

    Returns:
        By name, `one-value` and `several-values`, without those that have no task.
    """
    made: dict[str, Project] = {}
    for listing, prediction in items:
        attribute = ws.schema.attribute(listing.vertical, prediction.attribute)
        images = [_shown(ws, reference, image_root) for reference in listing.images]
        project = made.setdefault(PROJECTS[attribute.many], Project(labelling_page(attribute.many)))
        project.tasks.append(_task(listing, prediction, attribute, images, model))
    return dict(sorted(made.items()))


def write_projects(made: dict[str, Project], folder: Path) -> None:
    """Writes `<project>/tasks.json` and `<project>/config.xml`, for Label Studio's import and its labelling interface.

    Args:
        made: by name.
        folder: a local folder.

    Raises:
        InputError: it cannot be written.
    """
    for name, project in made.items():
        with explained_output(folder, folder=True):
            write_atomic(folder / name / "config.xml", project.page.encode())
            write_atomic(folder / name / "tasks.json", json.dumps(project.tasks, indent=1, ensure_ascii=False).encode())


def _shown(ws: Workspace, reference: str, image_root: str) -> str:
    """What a browser, or Label Studio, finds the image by."""
    base, path = ws.images.base, inputs.join(ws.images.base, reference)
    inside = posixpath.relpath(path, base) if "://" in path else os.path.relpath(path, base)
    if "://" in reference or ("://" in path and not image_root):
        return path
    if image_root and not inside.startswith(".."):
        return image_root + quote(inside)
    return f"data:image/jpeg;base64,{base64.b64encode(ws.images.jpeg(reference, _SIDE)).decode()}"


def _linked(url: str) -> str:
    url = html.escape(url)
    return f'<a href="{url}" target="_blank" rel="noreferrer"><img src="{url}" alt=""/></a>'


def _task(
    listing: Listing, prediction: QueuedPrediction, attribute: Attribute, images: list[str], model: str
) -> dict[str, Any]:
    choices = [
        {"value": value.name, "hint": value.description} if value.description else {"value": value.name}
        for value in attribute.values
    ]
    about = f" ({attribute.description})" if attribute.description else ""
    title = f": {listing.title}" if listing.title else ""
    said, why = "no answer from the list", prediction.rationale or "(no reason)"
    if prediction.part == "drawn":
        said, why = "(not shown)", _UNSEEN
    elif prediction.answer is not None:
        said = f"{prediction.answer} ({prediction.confidence:.0%} of {prediction.chains} votes)"
    data = {
        "listing": listing.id,
        "vertical": listing.vertical,
        "attribute": prediction.attribute,
        "part": prediction.part,
        "images": [url for url in images if not url.startswith(_OF_A_HOST)],
        "linked": [_linked(url) for url in images if url.startswith(_OF_A_HOST)],
        "choices": choices,
        "question": f"{prediction.attribute}{about} of this {listing.vertical}{title}",
        "said": said,
        REASON: why,
    }
    if prediction.answer is None or prediction.part == "drawn":
        return {"data": data}
    chosen = {"choices": prediction.answer.split(SEPARATOR) if attribute.many else [prediction.answer]}
    result = [{"from_name": ANSWER, "to_name": REASON, "type": "choices", "value": chosen}]
    return {"data": data, "predictions": [{"model_version": model, "score": prediction.confidence, "result": result}]}
