"""A small, faultless catalogue with its model config, endpoint and tracking store; tests spoil one thing at a time."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from attrloop.components.run.config import RunConfig
from tests.http_server import QuietHandler, serving

SCHEMA = """verticals:
  mug:
    attributes:
      pattern: {values: [solid, striped]}
  lamp:
    attributes:
      shape: {values: [round, square]}
"""
VLM = {
    "model_type": "qwen2_5_vl",
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "text_config": {
        "model_type": "qwen2_5_vl_text",
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    },
    "vision_config": {
        "depth": 1,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [0],
    },
}


@dataclass
class Server:
    """Answers GET by path with a status, and what MLflow asks of its experiment.

    Attributes:
        experiment: the one that there is; None for none.
    """

    url: str = ""
    statuses: dict[str, int] = field(default_factory=lambda: {"/v1/models": 200, "/health": 200})
    asked: list[str] = field(default_factory=list)
    experiment: dict[str, str] | None = None


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            if "/mlflow/experiments/get-by-name" in self.path:
                absent = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such experiment"}
                self.answer(200 if state.experiment else 404, {"experiment": state.experiment, **absent})
            else:
                self.answer(state.statuses.get(self.path, 404), {"data": [{"id": "m"}]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(200, {"experiments": []})

        def answer(self, status: int, what: object) -> None:
            body = json.dumps(what).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as url:
        state.url = url
        yield state


@pytest.fixture(scope="session")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model folder with nothing but a VLM's config."""
    folder = tmp_path_factory.mktemp("vlm")
    (folder / "config.json").write_text(json.dumps(VLM))
    return str(folder)


@dataclass
class Shop:
    folder: Path
    raw: dict[str, Any]

    def rows(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    def write(self, name: str, rows: list[dict[str, Any]]) -> None:
        (self.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def set(self, section: str, **values: Any) -> "Shop":
        self.raw.setdefault(section, {}).update(values)
        return self

    def config(self) -> RunConfig:
        return RunConfig.model_validate(self.raw)

    def file(self) -> Path:
        """The config as a file."""
        path = self.folder / "run.yaml"
        path.write_text(yaml.safe_dump(self.raw))
        return path


@pytest.fixture
def shop(tmp_path: Path, vlm: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("ANNOTATOR_KEY", "sk-secret-123")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "schema.yaml").write_text(SCHEMA)
    names = [f"{vertical}-{k}" for k in range(10) for vertical in ("mug", "lamp")]
    for k, name in enumerate(names):
        Image.new("RGB", (40, 30), (k * 9, 0, 7)).save(folder / f"{name}.png")
    paths = {
        key: str(folder / file)
        for key, file in {
            "catalogue_schema": "schema.yaml",
            "listings": "listings.jsonl",
            "labels": "labels.jsonl",
        }.items()
    }
    counts = {"train_per_vertical": 2, "validation_per_vertical": 1, "test_per_vertical": 1}
    shop = Shop(
        folder,
        {
            "data": paths,
            "model": {"base": vlm},
            "annotate": {"base_url": f"{server.url}/v1", "model": "m", "key_env": "ANNOTATOR_KEY"} | counts,
        },
    )
    shop.write(
        "listings.jsonl", [{"id": name, "vertical": name.split("-")[0], "images": [f"{name}.png"]} for name in names]
    )
    shop.write("labels.jsonl", [{"listing": "mug-0", "attribute": "pattern", "value": "solid", "split": "test"}])
    return shop
