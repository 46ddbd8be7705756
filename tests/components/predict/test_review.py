"""What is least certain goes to Label Studio, and what people made of it comes back as labels."""

import base64
import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import polars as pl
import pytest
from PIL import Image

from attrloop.components.errors import InputError
from attrloop.components.predict.queue import export, review, select
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.workspace import Workspace


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
    (embedded,), (linked,) = data["images"], data["linked"]
    picture = Image.open(io.BytesIO(base64.b64decode(embedded.removeprefix("data:image/jpeg;base64,"))))
    assert picture.width == 768
    assert [tag.get("src") for tag in ElementTree.fromstring(linked).iter("img")] == ["https://shop.example/b.jpg"]
    assert (data["said"], data["part"]) == ("blue (10% of 10 votes)", "uncertain")
    (made,) = one[1]["predictions"]
    assert made["score"] == 0.1 and made["result"][0]["value"] == {"choices": ["blue"]}
    assert several[1]["predictions"][0]["result"][0]["value"] == {"choices": ["dots", "hearts"]}
    assert "predictions" not in one[2], "nothing is chosen where the model answered nothing"


def test_the_page_names_what_the_tasks_hold(ws: Workspace, tmp_path: Path) -> None:
    for project, choice in (("one-value", "single-radio"), ("several-values", "multiple")):
        export(ws, select(ws, 1), tmp_path / "out")
        tree = ElementTree.parse(tmp_path / "out" / project / "config.xml").getroot()
        (task,) = tasks(tmp_path / "out", project)
        values = [value for tag in tree.iter() for value in tag.attrib.values() if value.startswith("$")]
        named = {value[1:].partition("[")[0] for value in values}
        assert named <= set(task["data"]) and {"images", "linked", "choices", "said", "why"} <= named
        (choices,) = tree.iter("Choices")
        result = task["predictions"][0]["result"][0]
        assert (choices.get("name"), choices.get("toName"), choices.get("choice")) == (
            result["from_name"],
            result["to_name"],
            choice,
        )
        assert ">" not in "".join(tree.find("Style").itertext()), "Label Studio escapes it, and the style is void"


def rewritten(ws: Workspace, **changes: Any) -> Workspace:
    """The workspace with other listings: every mug has the changes."""
    file = Path(ws.config.data.listings)
    rows = [json.loads(line) | changes for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Workspace.open(ws.store.root)


def test_images_can_be_served_to_label_studio_in_place_of_being_embedded(ws: Workspace, tmp_path: Path) -> None:
    odd = "a b%20?#&+é.png"
    (tmp_path / "more").mkdir()
    for place in (tmp_path / odd, tmp_path / "more" / "b.png", tmp_path.parent / "outside.png"):
        Image.new("RGB", (30, 30), "red").save(place)
    images = [odd, str(tmp_path / "more" / "b.png"), "../outside.png", "gs://shop/b c=1.jpg"]
    ws = rewritten(ws, images=images)
    export(ws, select(ws, 1), tmp_path / "out", "/data/local-files/?d=photos/")
    served, absolute, outside, bucket = tasks(tmp_path / "out", "one-value")[0]["data"]["images"]
    assert parse_qs(urlsplit(served).query) == {"d": [f"photos/{odd}"]} and not urlsplit(served).fragment
    assert absolute == "/data/local-files/?d=photos/more/b.png"
    assert outside.startswith("data:image/jpeg;base64,"), "it is not in the folder that Label Studio serves"
    assert bucket == "gs://shop/b c=1.jpg", "Label Studio takes the name of an object as it is"


def test_hostile_text_stays_text_and_a_url_cannot_leave_its_quotes(ws: Workspace, tmp_path: Path) -> None:
    title, url = 'A & B <c> "Shirt" [new] $why {{k}}', "https://shop.example/a.jpg?x=\"><script>alert(1)</script>&y='"
    ws = rewritten(ws, title=title, images=[url])
    export(ws, select(ws, 1), tmp_path / "out")
    data = tasks(tmp_path / "out", "one-value")[0]["data"]
    assert data["question"].endswith(f": {title}"), "Label Studio escapes text itself"
    (linked,) = data["linked"]
    found = ElementTree.fromstring(linked)
    assert [tag.tag for tag in found.iter()] == ["a", "img"] and found.get("href") == found[0].get("src") == url


@pytest.mark.parametrize(
    ("start", "name"),
    [
        ({"origin": "models:/adapter/3", "trained_as": "shoes-1a2b3c4d/iteration-2"}, "shoes-1a2b3c4d/iteration-2"),
        ({"origin": "models:/adapter/3", "trained_as": "models:/adapter/3"}, "adapter/3"),
        ({"origin": "/home/ann/runs/shoes-1a2b3c4d/iteration-1/dpo/adapter"}, "shoes-1a2b3c4d/iteration-1"),
        (None, "base"),
    ],
    ids=["run and stage", "of an earlier registration", "of an earlier version", "none"],
)
def test_a_prediction_names_the_model_by_run_and_stage(
    ws: Workspace, tmp_path: Path, start: dict[str, str] | None, name: str
) -> None:
    if start:
        Artifact(ws.store, "start", start).finish("adapter", {}, [])
    export(ws, select(ws, 1), tmp_path / "out")
    (made,) = tasks(tmp_path / "out", "one-value")[0]["predictions"]
    assert made["model_version"] == name


def test_a_task_that_was_drawn_for_gold_shows_nothing_of_the_prediction(ws: Workspace, tmp_path: Path) -> None:
    queue = select(ws, 1).with_columns(part=pl.lit("drawn"))
    export(ws, queue, tmp_path / "out")
    (task,) = tasks(tmp_path / "out", "one-value")
    assert task["data"]["part"] == "drawn" and "predictions" not in task
    assert "I see it on 0." not in json.dumps(task) and task["data"]["said"] == "(not shown)"


def test_predictions_that_are_not_finished_are_not_reviewed(ws: Workspace) -> None:
    (Path(ws.store.root) / "predictions" / "manifest.json").unlink()
    with pytest.raises(InputError, match="predictions: not finished"):
        review(ws.store.root)
