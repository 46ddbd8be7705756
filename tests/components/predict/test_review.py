"""What is least certain goes to Label Studio, and what people made of it comes back as labels."""

import base64
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest
import yaml
from PIL import Image

from attrloop.components.catalogue.readers import read_labels
from attrloop.components.catalogue.records import Listing, to_frame
from attrloop.components.errors import InputError
from attrloop.components.gold.stated import stated_splits
from attrloop.components.predict.label_studio import import_labels, read_export
from attrloop.components.predict.queue import export, review, select
from attrloop.components.predict.votes import CataloguePrediction
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import DataConfig, ModelConfig, RunConfig
from attrloop.components.run.workspace import Workspace

EXPORTED = Path(__file__).with_name("label-studio-export.json")  # written by Label Studio 1.23.2 from tasks of ours


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """Predictions of six mugs, in two shards: the confidence of mug-k is k/10, mug-2 is off the list."""
    colour = {
        "description": "of the glaze",
        "values": ["red", {"name": "blue", "description": "azure too", "synonyms": ["azure"]}, "green", "not_visible"],
    }
    schema = {
        "verticals": {
            "mug": {"attributes": {"colour": colour, "decor": {"values": ["dots", "hearts", "none"], "many": True}}}
        }
    }
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(schema))
    Image.new("RGB", (900, 30), "red").save(tmp_path / "a.png")
    rows = [
        Listing(id=f"mug-{k}", vertical="mug", images=("a.png", "https://shop.example/b.jpg"), title=f"Mug {k}")
        for k in range(6)
    ]
    (tmp_path / "listings.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
    data = DataConfig(catalogue_schema=str(tmp_path / "schema.yaml"), listings=str(tmp_path / "listings.jsonl"))
    ws = Workspace.create(str(tmp_path / "run"), RunConfig(data=data, model=ModelConfig(base="none")))
    stage = Artifact(ws.store, "predictions", {})
    for number, shard in enumerate((range(3, 6), range(3))):
        made = [
            CataloguePrediction(
                listing=f"mug-{k}",
                vertical="mug",
                attribute=attribute,
                answer=None if k == 2 and attribute == "colour" else answer,
                confidence=k / 10,
                chains=10,
                rationale=f"I see it on {k}.",
            )
            for k in shard
            for attribute, answer in (("colour", "blue"), ("decor", "dots; hearts"))
        ]
        to_frame(made, CataloguePrediction).write_parquet(stage.folder / f"shard-{number:05d}.parquet")
    stage.finish("predictions", {}, ["shard-00000.parquet", "shard-00001.parquet"])
    return ws


def tasks(folder: Path, project: str) -> list[dict[str, Any]]:
    return json.loads((folder / project / "tasks.json").read_text())


def test_the_least_confident_of_every_attribute_are_queued(ws: Workspace) -> None:
    queue = select(ws, 2)
    assert queue.select("attribute", "listing").rows() == [
        ("colour", "mug-0"),
        ("colour", "mug-1"),
        ("decor", "mug-0"),
        ("decor", "mug-1"),
    ]
    assert select(ws, 0).is_empty() and select(ws, 100).height == 12


def test_a_review_leaves_the_queue_the_projects_and_the_summary(ws: Workspace) -> None:
    shown: dict[str, float] = {}

    class Sink:
        def log_metric(self, metric: str, value: float) -> None:
            shown[metric] = value

    folder = Path(ws.store.root) / review(ws.store.root, 2, metrics=Sink())
    assert pl.read_parquet(folder / "queue.parquet").height == 4
    assert len(tasks(folder, "one-value")) == len(tasks(folder, "several-values")) == 2
    summary = json.loads((folder / "summary.json").read_text())
    assert (
        summary["all"]
        == shown
        == {"predictions": 12, "confidence": 0.25, "unanimous": 0.0, "off_list": round(1 / 12, 4)}
    )
    assert summary["attributes"]["mug/decor"]["off_list"] == 0
    times = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    review(ws.store.root, 2)
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == times


def test_a_task_shows_the_images_the_closed_list_and_the_prediction(ws: Workspace, tmp_path: Path) -> None:
    assert export(ws, select(ws, 3), tmp_path / "out") == ["one-value", "several-values"]
    one, several = tasks(tmp_path / "out", "one-value"), tasks(tmp_path / "out", "several-values")
    assert [task["data"]["listing"] for task in one] == ["mug-0", "mug-1", "mug-2"]
    data = one[1]["data"]
    assert data["choices"] == [
        {"value": "red"},
        {"value": "blue", "hint": "azure too"},
        {"value": "green"},
        {"value": "not_visible"},
    ]
    assert data["question"] == "colour (of the glaze) of this mug: Mug 1" and data["why"] == "I see it on 1."
    embedded, url = data["images"]
    picture = Image.open(io.BytesIO(base64.b64decode(embedded.removeprefix("data:image/jpeg;base64,"))))
    assert picture.width == 768 and url == "https://shop.example/b.jpg"
    (made,) = one[1]["predictions"]
    assert made["score"] == 0.1 and made["result"][0]["value"] == {"choices": ["blue"]}
    assert several[1]["predictions"][0]["result"][0]["value"] == {"choices": ["dots", "hearts"]}
    assert "predictions" not in one[2], "nothing is chosen where the model answered nothing"


def test_the_interface_names_what_the_tasks_hold(ws: Workspace, tmp_path: Path) -> None:
    for project, choice in (("one-value", "single"), ("several-values", "multiple")):
        export(ws, select(ws, 1), tmp_path / "out")
        tree = ElementTree.parse(tmp_path / "out" / project / "config.xml").getroot()
        (task,) = tasks(tmp_path / "out", project)
        named = {value[1:] for tag in tree for value in tag.attrib.values() if value.startswith("$")}
        assert named <= set(task["data"]) and {"images", "choices"} <= named
        (choices,) = tree.iter("Choices")
        result = task["predictions"][0]["result"][0]
        assert (choices.get("name"), choices.get("toName"), choices.get("choice")) == (
            result["from_name"],
            result["to_name"],
            choice,
        )


def test_images_can_be_served_to_label_studio_in_place_of_being_embedded(ws: Workspace, tmp_path: Path) -> None:
    export(ws, select(ws, 1), tmp_path / "out", "/data/local-files/?d=photos/")
    assert tasks(tmp_path / "out", "one-value")[0]["data"]["images"] == [
        "/data/local-files/?d=photos/a.png",
        "https://shop.example/b.jpg",
    ]


def annotated(task: dict[str, Any], *answers: list[str] | None) -> dict[str, Any]:
    """A task as Label Studio exports it; None is an annotator who skipped it."""
    result = {"from_name": "answer", "to_name": "photos", "type": "choices"}
    return {
        "id": 7,
        "data": task["data"],
        "annotations": [
            {"result": [] if a is None else [{**result, "value": {"choices": a}}], "was_cancelled": a is None}
            for a in answers
        ],
    }


def test_reviewed_tasks_come_back_as_labels_that_a_run_takes(ws: Workspace, tmp_path: Path) -> None:
    export(ws, select(ws, 6), tmp_path / "out")
    one, several = tasks(tmp_path / "out", "one-value"), tasks(tmp_path / "out", "several-values")
    answers: list[tuple[dict[str, Any], list[list[str] | None]]] = [
        (one[0], [["green"]]),
        (one[1], [["blue"], ["azure"]]),
        (several[1], [["hearts", "dots"]]),
        (one[2], [None]),
        (one[3], [["red"], ["blue"]]),
        (one[4], []),
    ]
    (tmp_path / "export.json").write_text(json.dumps([annotated(task, *given) for task, given in answers]))
    found = import_labels(tmp_path / "export.json", ws.config, tmp_path / "labels.jsonl")
    assert (found.skipped, found.disputed) == (2, ["mug-3/colour"])
    labels = read_labels(tmp_path / "labels.jsonl", ws.schema, ws.listings)
    assert {(label.listing, label.attribute): label.value for label in labels} == {
        ("mug-0", "colour"): "green",
        ("mug-1", "colour"): "blue",
        ("mug-1", "decor"): "dots; hearts",
    }
    assert {label.source for label in labels} == {"human"}


def test_reviewed_labels_replace_older_ones_and_a_listing_stays_in_its_split(ws: Workspace, tmp_path: Path) -> None:
    old = [
        {"listing": "mug-0", "attribute": "colour", "value": "red", "rationale": "Red.", "split": "test"},
        {"listing": "mug-5", "attribute": "decor", "value": "none", "split": "train"},
    ]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    config = ws.config.model_copy(
        update={"data": ws.config.data.model_copy(update={"labels": str(tmp_path / "labels.jsonl")})}
    )
    export(ws, select(ws, 1), tmp_path / "out")
    reviewed = [
        annotated(tasks(tmp_path / "out", "one-value")[0], ["blue"]),
        annotated(tasks(tmp_path / "out", "several-values")[0], ["none"]),
    ]
    (tmp_path / "export.json").write_text(json.dumps(reviewed))
    import_labels(tmp_path / "export.json", config, tmp_path / "labels.jsonl")
    labels = read_labels(tmp_path / "labels.jsonl", ws.schema, ws.listings)
    assert {(label.listing, label.attribute): label.value for label in labels} == {
        ("mug-0", "colour"): "blue", ("mug-5", "decor"): "none", ("mug-0", "decor"): "none",
    }  # fmt: skip
    assert stated_splits(labels, "") == {"mug-0": "test", "mug-5": "train"}


def test_what_label_studio_itself_exported_is_read(ws: Workspace, tmp_path: Path) -> None:
    entry = {"attributes": {"colour": {"values": ["red", "green", "blue", "not_visible"]}}}
    schema = type(ws.schema).model_validate({"verticals": {"mug": entry, "shirt": entry}})
    found = read_export(EXPORTED, schema)
    assert [(label.listing, label.value) for label in found.labels] == [("mug-7", "red"), ("mug-8", "green")]
    assert (found.skipped, found.disputed) == (1, ["shirt-9/colour"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attribute": "shape"}, "'mug' has no attribute 'shape'"),
        ({"vertical": "cup"}, "'cup' has no attribute 'colour'"),
        ({"listing": "mug-99"}, "1 reviewed listings are not in"),
    ],
)
def test_an_export_that_does_not_fit_is_refused_and_writes_nothing(
    ws: Workspace, tmp_path: Path, change: dict[str, str], message: str
) -> None:
    export(ws, select(ws, 1), tmp_path / "out")
    task = annotated(tasks(tmp_path / "out", "one-value")[0], ["blue"])
    task["data"] |= change
    (tmp_path / "export.json").write_text(json.dumps([task]))
    with pytest.raises(InputError, match=message):
        import_labels(tmp_path / "export.json", ws.config, tmp_path / "labels.jsonl")
    assert not (tmp_path / "labels.jsonl").exists()


@pytest.mark.parametrize(
    "text", ["{", "{}", '[{"id": 1, "answer": "red"}]', None], ids=["broken", "no list", "JSON-MIN", "absent"]
)
def test_what_is_no_export_is_refused(ws: Workspace, tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "export.json").write_text(text)
    with pytest.raises(InputError, match="Export the project from Label Studio as JSON"):
        read_export(tmp_path / "export.json", ws.schema)


def test_a_value_that_is_not_on_the_list_is_named(ws: Workspace, tmp_path: Path) -> None:
    export(ws, select(ws, 1), tmp_path / "out")
    (tmp_path / "export.json").write_text(json.dumps([annotated(tasks(tmp_path / "out", "one-value")[0], ["mauve"])]))
    with pytest.raises(
        InputError, match=r"task 7, listing mug-0\): \[\['mauve'\]\] is not a value of colour. Use one of: red, blue"
    ):
        read_export(tmp_path / "export.json", ws.schema)


def test_predictions_that_are_not_finished_are_not_reviewed(ws: Workspace) -> None:
    (Path(ws.store.root) / "predictions" / "manifest.json").unlink()
    with pytest.raises(InputError, match="predictions: not finished"):
        review(ws.store.root)
