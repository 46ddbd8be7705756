"""The shipped examples: they load, they are complete, and preflight finds in them what is to be found."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from attrloop.components.preflight import check
from attrloop.components.preflight.model import _probe
from attrloop.components.run.config import RunConfig, load_config

EXAMPLES = Path(__file__).parents[2] / "examples"
OWN, QWEN = EXAMPLES / "own-catalogue" / "config.yaml", EXAMPLES / "qwen2.5-vl-3b.yaml"


@pytest.fixture(autouse=True)
def without_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty hub cache, no hub, no tracking server, and a key that no endpoint would take."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("OPENAI_API_KEY", "no-key")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    _probe.cache_clear()


def fields(model: type[BaseModel], before: str = "") -> set[str]:
    """The dotted names of all fields, those of sections included."""
    names = set()
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        section = isinstance(kind, type) and issubclass(kind, BaseModel)
        names |= {f"{before}{name}"} | (fields(kind, f"{before}{name}.") if section else set())
    return names


def keys(raw: dict[str, object], before: str = "") -> set[str]:
    """The dotted names of a document's keys, in the sections of a run config."""
    sections = {
        name
        for name, field in RunConfig.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    names = set()
    for name, value in raw.items():
        names |= {f"{before}{name}"} | (
            keys(value, f"{name}.") if name in sections and isinstance(value, dict) else set()
        )
    return names


def test_the_qwen_config_sets_every_field_there_is() -> None:
    assert keys(yaml.safe_load(QWEN.read_text(encoding="utf-8"))) == fields(RunConfig)


def test_the_qwen_config_explains_every_value() -> None:
    lines = QWEN.read_text(encoding="utf-8").splitlines()
    bare = [
        line
        for k, line in enumerate(lines)
        if ": " in line and not line.lstrip().startswith("#") and "#" not in line and "#" not in lines[k - 1]
    ]
    assert not bare


def test_own_catalogue_has_no_problem(tmp_path: Path) -> None:
    outcome = check.examine(load_config(OWN), str(tmp_path / "run"))
    assert outcome.problems == []
    assert outcome.forecast is not None and outcome.forecast.calls == 0, "a newcomer has no key"


def test_preflight_finds_the_hub_model_missing_and_says_what_it_could_not_check(tmp_path: Path) -> None:
    outcome = check.examine(load_config(QWEN), str(tmp_path / "run"))
    assert [problem.where for problem in outcome.problems] == ["model.base Qwen/Qwen2.5-VL-3B-Instruct"]
    assert "must be in the hub cache" in outcome.problems[0].remedy
    model = next(finding for finding in outcome.findings if finding.name == "base model")
    assert "not checked" in model.detail and "lora_targets" in model.detail


def test_the_own_catalogue_shows_what_a_schema_can_say() -> None:
    schema = yaml.safe_load((OWN.parent / "schema.yaml").read_text(encoding="utf-8"))
    attributes = [
        attribute for vertical in schema["verticals"].values() for attribute in vertical["attributes"].values()
    ]
    names = {
        value if isinstance(value, str) else value["name"] for attribute in attributes for value in attribute["values"]
    }
    assert {"none", "not_visible", "other"} <= names
    assert any(attribute.get("many") for attribute in attributes)
