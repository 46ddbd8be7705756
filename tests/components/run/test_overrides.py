"""From a config file and single settings to the config of a run."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from attrloop.components.errors import InputError
from attrloop.components.run.overrides import PARAMETER, SETTINGS, read_json, read_texts, resolve, write_json

CONFIG = """
name: mugs
seed: 3
data: {catalogue_schema: schema.yaml, listings: listings.jsonl}
model: {base: some/model}
loop: {iterations: 2}
annotate: {model: annotator, base_url: "http://127.0.0.1:1/v1"}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG)
    return path


def said(given: Callable[[], object]) -> list[str]:
    with pytest.raises(InputError) as caught:
        given()
    return [str(problem) for problem in caught.value.problems]


def test_without_overrides_the_file_decides(path: Path) -> None:
    config = resolve(path)
    assert (config.loop.iterations, config.seed, config.annotate.model) == (2, 3, "annotator")
    assert resolve(path, read_json("")) == config == resolve(path, read_json("{}"))


def test_overrides_replace_also_by_zero_and_by_nothing(path: Path) -> None:
    config = resolve(path, {"loop.iterations": 0, "seed": 0, "annotate.max_cost": 0, "data.labels": "", "name": "cups"})
    assert (config.loop.iterations, config.seed, config.annotate.max_cost) == (0, 0, 0.0)
    assert (config.data.labels, config.name, config.annotate.model) == ("", "cups", "annotator")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("sample.temperature", "0.7", 0.7),
        ("sft.learning_rate", "1e-4", 1e-4),
        ("seed", "7", 7),
        ("prompt.title", "true", True),
        ("data.allowed_hosts", "[a.example, b.example]", ("a.example", "b.example")),
        ("data.allowed_hosts", "[]", ()),
        ("model.processor", "{do_image_splitting: false, size: 3}", {"do_image_splitting": False, "size": 3}),
        ("sample.engine", "vllm", "vllm"),
        ("model.revision", "1e3", "1e3"),
        ("model.revision", "007", "007"),
        ("annotate.model", "true", "true"),
        ("annotate.model", "a: b", "a: b"),
        ("data.labels", "", ""),
    ],
)
def test_a_text_becomes_what_the_setting_wants(path: Path, name: str, text: str, value: Any) -> None:
    section, _, key = name.rpartition(".")
    config = resolve(path, read_texts({name: text}))
    found = getattr(getattr(config, section) if section else config, key)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("sample.temperature", "warm", "valid number"),
        ("sample.temperature", "0", "greater than 0"),
        ("seed", "", "valid integer"),
        ("seed", "{", "valid integer"),
        ("data.allowed_hosts", "[a.com", "not a list. Write [a.com]"),
        ("data.allowed_hosts", "a.com", "not a list. Write [a.com]"),
        ("data.allowed_hosts", "{a: 1}", "not a list. Write a list: [a, b]"),
        ("sample.engine", "VLLM", "transformers or vllm"),
        ("loop.iterations", "6", "less than or equal to 5"),
        ("dpo.label_smoothing", "0.1", "does nothing with loss sigmoid"),
        ("annotate.model", os.fsdecode(b"caf\xe9"), "a text holds half a character"),
        ("model.processor", os.fsdecode(b"{size: caf\xe9}"), "a text holds half a character"),
        ("model.processor", '{size: "\\ud83d"}', "not a mapping of keys to values"),
        ("annotate.max_cost", "1e999", "finite number"),
        ("annotate.max_cost", "nan", "finite number"),
        ("sample.chains", "9" * 400, "larger than any number"),
        ("tracking.uri", "https://bob:hunter2@mlflow.example", "MLFLOW_TRACKING_USERNAME"),
    ],
)
def test_a_bad_value_is_told_by_the_option(path: Path, name: str, text: str, what: str) -> None:
    (problem,) = said(lambda: resolve(path, read_texts({name: text})))
    assert problem.startswith(f"--set {name}: ") and what in problem and "hunter2" not in problem
    (problem,) = said(lambda: resolve(path, read_texts({name: text}), PARAMETER))
    assert problem.startswith(f"overrides: {name}: ")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("sample.temperatur", "sample.temperature"),
        ("temperature", "sample.temperature"),
        ("sampel.temperature", "sample.temperature"),
        ("sample_temperature", "sample.temperature"),
        ("data.allowed-hosts", "data.allowed_hosts"),
        ("loop_iterations", "loop.iterations"),
        ("loop_seed", "seed"),
        ("data_schema", "data.catalogue_schema"),
    ],
)
def test_an_unknown_setting_is_told_with_what_it_may_be(path: Path, name: str, meant: str) -> None:
    (problem,) = said(lambda: resolve(path, read_texts({name: "1"})))
    assert problem == f"--set {name}: unknown setting. Did you mean {meant}?"


def test_a_section_is_no_setting(path: Path) -> None:
    (problem,) = said(lambda: resolve(path, {"loop": {"iterations": 1}}))
    assert problem == "--set loop: a section, not a setting. Name one of loop.iterations, loop.min_gain."


def test_all_that_is_wrong_is_told_at_once(path: Path) -> None:
    overrides = {"seed": "x", "sample.chains": 0, "zzz": 1}
    assert len(said(lambda: resolve(path, overrides))) == 3


def test_a_fault_of_the_file_is_told_with_its_line(path: Path) -> None:
    path.write_text(CONFIG + "sft: {learning_rat: 1}\n")
    (problem,) = said(lambda: resolve(path, {"seed": 1}))
    assert "run.yaml:8 (sft.learning_rat): unknown key" in problem


@pytest.mark.parametrize("text", ["seed=3", "[1]", "3", "{'seed': 3}"])
def test_the_pipelines_parameter_is_a_json_object(text: str) -> None:
    (problem,) = said(lambda: read_json(text))
    assert problem.startswith("overrides: not ") and '{"sample.temperature": 0.7, "seed": 3}' in problem


def test_the_pipelines_parameter_says_the_same_as_the_options(path: Path) -> None:
    overrides = read_texts({"sample.temperature": "0.7", "seed": "5", "annotate.model": "1e3", "prompt.title": "yes"})
    assert resolve(path, read_json(write_json(overrides))) == resolve(path, overrides) != resolve(path)
    assert write_json({}) == "" and write_json(dict(reversed(overrides.items()))) == write_json(overrides)


def test_paths_start_where_they_are_given(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = path.parent / "elsewhere"
    (elsewhere / "model").mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    config = resolve(path, {"data.catalogue_schema": "s.yaml", "mine.truth": "t.jsonl", "model.base": "model"})
    assert config.data.catalogue_schema == str(elsewhere / "s.yaml"), "an override: the current folder"
    assert config.data.listings == str(path.parent / "listings.jsonl"), "the file's: its folder"
    assert (config.mine.truth, config.model.base) == (str(elsewhere / "t.jsonl"), str(elsewhere / "model"))
    assert resolve(path, {"data.listings": "gs://b/l.jsonl"}).data.listings == "gs://b/l.jsonl"
    assert resolve(path, {"model.base": "owner/name"}).model.base == "owner/name", "no folder: a hub id"


def test_the_record_of_a_run_is_a_config_again(path: Path) -> None:
    config = resolve(path, {"seed": 5})
    (path.parent / "config.json").write_text(config.model_dump_json(indent=1))
    assert resolve(path.parent / "config.json") == config


def test_a_run_is_named_by_what_decides_its_outcome(path: Path) -> None:
    name = resolve(path).run_name
    assert name.startswith("mugs-") and name == resolve(path).run_name != resolve(path, {"seed": 4}).run_name
    assert name == resolve(path, {"annotate.base_url": "http://127.0.0.1:2/v1"}).run_name, "the address decides nothing"


def test_every_setting_is_described() -> None:
    assert [name for name, about in SETTINGS.items() if not about.description] == []


def test_folders_of_images_start_from_the_config_and_in_a_setting_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("shop", "here"):
        (tmp_path / name).mkdir()
    data = {"catalogue_schema": "s.yaml", "listings": "l.jsonl", "allowed_folders": ["photos", "/data"]}
    (tmp_path / "shop" / "config.yaml").write_text(yaml.safe_dump({"data": data, "model": {"base": "owner/name"}}))
    monkeypatch.chdir(tmp_path / "here")
    config = tmp_path / "shop" / "config.yaml"
    assert resolve(config).data.allowed_folders == (str(tmp_path / "shop" / "photos"), "/data")
    changed = resolve(config, {"data.allowed_folders": ["photos"]}).data
    assert changed.allowed_folders == (str(tmp_path / "here" / "photos"),)
    with pytest.raises(InputError, match=r"data\.allowed_folders"):
        resolve(config, {"data.allowed_folders": [3]})
