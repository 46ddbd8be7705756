"""Predictions as Label Studio tasks, and people's answers as labels.

A task shows a listing's images, asks for one attribute, offers its closed list, and has the prediction selected. The
choices come with each task, so one project serves all attributes that take one value, and a second the others.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attrloop.components.catalogue.readers import read_labels
from attrloop.components.catalogue.records import Label, Listing
from attrloop.components.catalogue.schema import SEPARATOR, Attribute, Schema, load_schema
from attrloop.components.errors import InputError, Problem, fail
from attrloop.components.predict.stream import listings
from attrloop.components.predict.votes import CataloguePrediction
from attrloop.components.run.config import RunConfig
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage import inputs
from attrloop.components.storage.files import write_atomic

PROJECTS = {False: "one-value", True: "several-values"}
ANSWER, PHOTOS = "answer", "photos"
_SIDE = 768  # pixels: the longest side of an image that is put into the task itself
_CONFIG = f"""<View>
  <Header value="$question"/>
  <Choices name="{ANSWER}" toName="{PHOTOS}" value="$choices" choice="%s" required="true" showInline="true"/>
  <Image name="{PHOTOS}" valueList="$images" zoom="true"/>
  <Text name="why" value="$why"/>
</View>
"""


def write_tasks(
    ws: Workspace, items: Iterable[tuple[Listing, CataloguePrediction]], folder: Path, image_root: str, model: str
) -> list[str]:
    """Writes `<project>/tasks.json` and `<project>/config.xml`, for Label Studio's import and its labelling interface.

    Args:
        ws: the workspace of the prediction.
        items: what to ask about.
        folder: a local folder.
        image_root: where Label Studio finds the folder of the listings file, e.g. `/data/local-files/?d=photos/`. ""
            puts local images into the tasks; those of a bucket are left to Label Studio's cloud storage. URLs stay as
            they are.
        model: the name of the model that predicted.

    Returns:
        The names of the projects, `one-value` and `several-values`, without those that have no task.
    """
    tasks: dict[str, list[dict[str, Any]]] = {}
    for listing, prediction in items:
        attribute = ws.schema.attribute(listing.vertical, prediction.attribute)
        images = [_shown(ws, reference, image_root) for reference in listing.images]
        tasks.setdefault(PROJECTS[attribute.many], []).append(_task(listing, prediction, attribute, images, model))
    for name, made in tasks.items():
        choice = "multiple" if name == PROJECTS[True] else "single"
        write_atomic(folder / name / "config.xml", (_CONFIG % choice).encode())
        write_atomic(folder / name / "tasks.json", json.dumps(made, indent=1, ensure_ascii=False).encode())
    return sorted(tasks)


def _shown(ws: Workspace, reference: str, image_root: str) -> str:
    path = inputs.join(ws.images.base, reference)
    if "://" in reference or (not image_root and "://" in path):
        return path
    return (
        f"{image_root}{reference}"
        if image_root
        else f"data:image/jpeg;base64,{base64.b64encode(ws.images.jpeg(reference, _SIDE)).decode()}"
    )


def _task(
    listing: Listing, prediction: CataloguePrediction, attribute: Attribute, images: list[str], model: str
) -> dict[str, Any]:
    choices = [
        {"value": value.name, "hint": value.description} if value.description else {"value": value.name}
        for value in attribute.values
    ]
    about = f" ({attribute.description})" if attribute.description else ""
    title = f": {listing.title}" if listing.title else ""
    data = {
        "listing": listing.id,
        "vertical": listing.vertical,
        "attribute": prediction.attribute,
        "images": images,
        "choices": choices,
        "question": f"{prediction.attribute}{about} of this {listing.vertical}{title}",
        "why": prediction.rationale or "(the model gave no answer from the list)",
    }
    if prediction.answer is None:
        return {"data": data}
    chosen = {"choices": prediction.answer.split(SEPARATOR) if attribute.many else [prediction.answer]}
    result = [{"from_name": ANSWER, "to_name": PHOTOS, "type": "choices", "value": chosen}]
    return {"data": data, "predictions": [{"model_version": model, "score": prediction.confidence, "result": result}]}


@dataclass
class Imported:
    """What an export held.

    Attributes:
        labels: of the reviewed tasks.
        skipped: tasks without an answer.
        disputed: tasks whose reviewers chose different values; they give no label.
    """

    labels: list[Label] = field(default_factory=list)
    skipped: int = 0
    disputed: list[str] = field(default_factory=list)


def import_labels(export: Path, config: RunConfig, output: Path) -> Imported:
    """Adds an export of Label Studio (format JSON) to the labels that the config names, in the form of `data.labels`.

    A reviewed value replaces an older one of the same listing and attribute. The listing stays in the split that its
    labels name.

    Args:
        export: the exported file.
        config: with the schema and the listings that were predicted.
        output: the JSONL file to write; may be the config's own labels file.

    Raises:
        InputError: not such an export, an unknown listing or attribute, a value that is not on the list.
    """
    schema = load_schema(config.data.catalogue_schema)
    found = read_export(export, schema)
    known = {listing.id: listing for listing in listings(config.data.listings, schema)} if config.data.labels else {}
    wanted = {label.listing for label in found.labels}
    known = known or {listing.id: listing for listing in listings(config.data.listings, schema) if listing.id in wanted}
    if absent := sorted(wanted - set(known)):
        where = f"{export} (listing {absent[0]})"
        raise fail(
            where,
            f"{len(absent)} reviewed listings are not in {config.data.listings}",
            "Name the listings that were predicted in data.listings",
        )
    old = read_labels(config.data.labels, schema, known) if config.data.labels else []
    merged = {(label.listing, label.attribute): label for label in old}
    for label in found.labels:
        key = (label.listing, label.attribute)
        merged[key] = label.model_copy(update={"split": merged[key].split}) if key in merged else label
    write_atomic(output, "".join(f"{label.model_dump_json(exclude_none=True)}\n" for label in merged.values()).encode())
    return found


def read_export(export: Path, schema: Schema) -> Imported:
    """The labels in an export of Label Studio.

    Raises:
        InputError: as `import_labels`, all problems at once.
    """
    try:
        tasks = json.loads(export.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise fail(str(export), "no such file", "Export the project from Label Studio as JSON") from error
    except ValueError as error:
        raise fail(str(export), f"not JSON ({error})", "Export the project from Label Studio as JSON") from error
    if not isinstance(tasks, list) or not all(
        isinstance(task, dict) and isinstance(task.get("annotations"), list) for task in tasks
    ):
        raise fail(
            str(export),
            "not an export with annotations",
            "Export the project from Label Studio as JSON (not JSON-MIN or CSV)",
        )
    imported, problems = Imported(), list[Problem]()
    for task in tasks:
        where, data = f"{export} (task {task.get('id')}, listing {task['data'].get('listing')})", task["data"]
        attribute = _attribute(schema, data)
        answers = list(_answers(task))
        if attribute is None:
            what = f"{data.get('vertical')!r} has no attribute {data.get('attribute')!r}"
            problems.append(
                Problem(
                    where,
                    what,
                    "Import with the schema that was predicted with, and only projects that attrloop exported",
                )
            )
        elif not answers:
            imported.skipped += 1
        elif None in (values := {attribute.canonical(answer) for answer in answers}):
            problems.append(
                Problem(
                    where,
                    f"{answers} is not a value of {data['attribute']}",
                    f"Use one of: {', '.join(attribute.names)}",
                )
            )
        elif len(values) > 1:
            imported.disputed.append(f"{data['listing']}/{data['attribute']}")
        else:
            imported.labels.append(Label(listing=data["listing"], attribute=data["attribute"], value=str(values.pop())))
    if problems:
        raise InputError(problems)
    return imported


def _attribute(schema: Schema, data: dict[str, Any]) -> Attribute | None:
    vertical = schema.verticals.get(data.get("vertical", ""))
    return vertical.attributes.get(data.get("attribute", "")) if vertical else None


def _answers(task: dict[str, Any]) -> Iterator[list[str]]:
    """What each reviewer chose; skipped annotations do not count."""
    for annotation in task["annotations"]:
        chosen = [item["value"]["choices"] for item in annotation["result"] if item.get("from_name") == ANSWER]
        if chosen and not annotation.get("was_cancelled"):
            yield chosen[0]
