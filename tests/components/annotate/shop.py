"""A small catalogue, and a programmable endpoint that speaks the annotator's protocol."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from attrloop.components.catalogue.readers import read_rows
from attrloop.components.catalogue.records import Label
from attrloop.components.gold.decide import decide
from attrloop.components.gold.stated import stated_splits
from attrloop.components.run.config import RunConfig
from attrloop.components.run.workspace import Workspace
from tests.splits import write_splits

SCHEMA = """
verticals:
  mug:
    attributes:
      main pattern: {description: the design, values: [solid, {name: striped, synonyms: [stripy]}, none]}
      colours: {many: true, values: [red, green, blue]}
  lamp:
    attributes:
      shape: {values: [round, square]}
"""
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}


@dataclass
class Endpoint:
    """Answers with the first value of each list, unless `behave(body, number)` returns (status, text, headers).

    Attributes:
        bodies: decoded bodies of the requests, in order of arrival.
        models: status and body of GET /models.
    """

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    behave: Callable[[dict[str, Any], int], tuple[int, str, dict[str, str]] | None] = lambda body, number: None
    lock: threading.Lock = field(default_factory=threading.Lock)
    models: tuple[int, str] = (200, json.dumps({"data": [{"id": "m"}]}))


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """A right reply: the first value of every list."""
    schema = body["response_format"]["json_schema"]["schema"]
    found = {}
    for name, entry in schema["properties"].items():
        value = schema["$defs"][entry.get("$ref", "").rpartition("/")[2]] if "$ref" in entry else entry
        wanted = value["properties"]["value"]
        found[name] = {
            "rationale": "I see it.",
            "value": [wanted["items"]["enum"][0]] if wanted.get("type") == "array" else wanted["enum"][0],
        }
    return found


def chat(content: object, finish: str = "stop", refusal: object = None) -> str:
    """The body of a chat completion."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    choice = {"index": 0, "finish_reason": finish, "message": message}
    return json.dumps(
        {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": USAGE}
    )


@dataclass
class Shop:
    """A catalogue of `count` listings per vertical, and runs over it."""

    folder: Path
    url: str

    def write(self, count: int = 12) -> None:
        (self.folder / "schema.yaml").write_text(SCHEMA)
        rows = []
        for k in range(count):
            for number, vertical in enumerate(("mug", "lamp")):
                Image.new("RGB", (40, 30), (k * 9, number * 99, 7)).save(self.folder / f"{vertical}-{k}.png")
                rows.append({"id": f"{vertical}-{k}", "vertical": vertical, "images": [f"{vertical}-{k}.png"]})
        (self.folder / "listings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def labels(self, *rows: dict[str, Any]) -> str:
        path = self.folder / "labels.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    def config(self, labels: str = "", data: dict[str, Any] | None = None, **annotate: Any) -> RunConfig:
        counts = {"train_per_vertical": 2, "validation_per_vertical": 1, "test_per_vertical": 1}
        settings = (
            {"base_url": self.url, "model": "m", "key_env": "ANNOTATOR_KEY", "retries": 0, "max_failed": 0.3}
            | counts
            | annotate
        )
        paths = {
            "catalogue_schema": str(self.folder / "schema.yaml"),
            "listings": str(self.folder / "listings.jsonl"),
            "labels": labels,
        }
        return RunConfig.model_validate({"data": paths | (data or {}), "model": {"base": "any"}, "annotate": settings})

    def workspace(self, name: str = "run", **settings: Any) -> str:
        return self.create(str(self.folder / name), **settings)

    def create(self, uri: str, **settings: Any) -> str:
        """A workspace at a URI, with splits by the listings' ids where the labels state none."""
        ws = Workspace.create(uri, self.config(**settings))
        path = ws.config.data.labels
        stated = stated_splits([row for _, row in read_rows(path, Label)], path) if path else {}
        write_splits(ws, decide(ws.listings, stated).of)
        return ws.store.root


def labels_of(uri: str) -> list[dict[str, Any]]:
    """The labels of a workspace, as they are written."""
    return [json.loads(line) for line in Path(uri, "annotate/labels.jsonl").read_text().splitlines()]


def report_of(uri: str) -> dict[str, Any]:
    """The report of a workspace."""
    report: dict[str, Any] = json.loads(Path(uri, "annotate/report.json").read_text())
    return report
