"""What is checked before anything is sent."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from attrloop.components.shared.errors import InputError
from attrloop.pipelines.compile import Name, compile_to
from attrloop.pipelines.submit.parameters import Compiled, parse, read_compiled
from attrloop.pipelines.submit.submission import Wanted, plan
from attrloop.pipelines.submit.submit import six_fields, submit
from tests.pipelines.submit.conftest import Server


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_sent(server: Server, wanted: Wanted) -> None:
    faulty = replace(wanted, settings={"iterations": "2", "loop-seed": "1", "sample_chains": "many", "gpu_type": "x" * 10_001, "zzz": "1"})
    with pytest.raises(InputError) as caught:
        submit(faulty, server.destination())
    said = str(caught.value)
    assert "5 problems" in said
    assert "--set iterations: attribute-loop has no such parameter. Did you mean loop_iterations" in said
    assert "Did you mean loop_seed" in said and "--set zzz: attribute-loop has no such parameter. It has: annotate_max_cost, " in said
    assert "--set sample_chains: 'many' is not a whole number" in said and "--set gpu_type: longer than the 10,000 bytes" in said
    assert server.sent() == []


def test_what_has_no_default_must_be_given(loop: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        plan(Wanted(pipeline=loop), tmp_path)
    assert {problem.where for problem in caught.value.problems} == {"config", "workspace"}
    settings = {"config": "gs://bucket/config.yaml", "workspace": "gs://bucket/run"}
    assert plan(Wanted(pipeline=loop, settings=settings), tmp_path).arguments == settings


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("STRING", "7", "7"),
        ("NUMBER_INTEGER", "-1", -1),
        ("NUMBER_DOUBLE", "0.5", 0.5),
        ("BOOLEAN", "True", True),
        ("LIST", '["a"]', ["a"]),
        ("STRUCT", '{"a": 1}', {"a": 1}),
    ],
)
def test_texts_become_values_of_the_parameters_type(kind: str, text: str, value: Any) -> None:
    read = parse({"p": text}, Compiled("pipe", {"p": {"parameterType": kind}}, frozenset(), ""))["p"]
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"), [("NUMBER_INTEGER", "1.5"), ("NUMBER_DOUBLE", "nan"), ("BOOLEAN", "yes"), ("LIST", '{"a": 1}'), ("STRUCT", "[1]"), ("STRUCT", "{a}")]
)
def test_a_text_of_another_type_is_refused(kind: str, text: str) -> None:
    with pytest.raises(InputError, match="is not"):
        parse({"p": text}, Compiled("pipe", {"p": {"parameterType": kind}}, frozenset(), ""))


@pytest.mark.parametrize("content", ["", "a: [", "- 1", "root: {}", "root: {inputDefinitions: 1}\npipelineInfo: {name: x}\ndeploymentSpec: {executors: {}}"])
def test_only_compiled_pipelines_are_taken(tmp_path: Path, content: str) -> None:
    (tmp_path / "p.yaml").write_text(content)
    with pytest.raises(InputError, match=r"p\.yaml: not a compiled pipeline"):
        read_compiled(tmp_path / "p.yaml")
    with pytest.raises(InputError, match="no such file"):
        read_compiled(tmp_path / "absent.yaml")


def test_a_setting_is_checked_as_the_config_is(wanted: Wanted, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"loop\.iterations.*less than or equal to 5"):
        plan(replace(wanted, settings={"loop_iterations": "9"}), tmp_path)


def test_the_loop_is_compiled_with_room_for_the_iterations_wanted(wanted: Wanted, tmp_path: Path) -> None:
    for asked, room in (({}, 3), ({"loop_iterations": "5"}, 5)):
        spec = next(yaml.safe_load_all(plan(replace(wanted, pipeline=None, settings=asked), tmp_path).file.read_text()))
        assert sum(name.startswith("comp-dpo") for name in spec["components"]) == room


def test_files_of_this_machine_are_refused_for_a_run_elsewhere(wanted: Wanted, tmp_path: Path) -> None:
    remote = replace(wanted, runs="gs://bucket/runs")
    with pytest.raises(InputError) as caught:
        plan(remote, tmp_path)
    assert [problem.where for problem in caught.value.problems] == ["data.catalogue_schema", "data.listings"]
    there = {"data_schema": "gs://bucket/schema.yaml", "data_listings": "gs://bucket/listings.jsonl"}
    assert plan(replace(remote, settings=there, data="2024-05"), tmp_path).arguments["workspace"].startswith("gs://bucket/runs/mugs-")


def test_the_key_tells_data_code_config_and_arguments_apart(wanted: Wanted, config: Path, tmp_path: Path) -> None:

    def key(**changes: Any) -> str:
        return plan(replace(wanted, **changes), tmp_path).key

    first = key()
    assert key() == first and key(data="abc") != first and key(settings={"gpu_sft_count": "2"}) != first
    assert key(revision="def") != first and key(runs="/elsewhere") != first and key(key="week-7") == "week-7"
    listings = tmp_path / "listings.jsonl"
    listings.write_text(listings.read_text() + "\n")
    assert (other := key()) != first
    config.write_text(config.read_text() + "sample: {temperature: 0.9}\n")
    assert key() not in (first, other)


def test_each_pipeline_and_adapter_has_a_workspace_of_its_own(wanted: Wanted, tmp_path: Path) -> None:
    def workspace(pipeline: Name | None, **settings: str) -> str:
        file = None if pipeline is None else tmp_path / f"{pipeline}.yaml"
        if pipeline is not None and file is not None:
            compile_to(file, pipeline)
        return plan(replace(wanted, pipeline=file, settings=settings), tmp_path).arguments["workspace"]

    assert workspace("loop") == workspace(None), "a loop that was compiled before is the loop"
    assert len({workspace(None), workspace("continue"), workspace("predict"), workspace("continue", adapter="models:/shoes/2")}) == 4


def test_the_order_of_chance_in_which_kfp_writes_its_comments_makes_no_other_version(loop: Path, tmp_path: Path) -> None:
    def version(old: str, new: str) -> str:
        file = tmp_path / "pipeline.yaml"
        text = loop.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))
        return plan(Wanted(pipeline=file, settings={"config": "gs://bucket/config.yaml", "workspace": "gs://bucket/run"}), tmp_path).version

    assert version("# PIPELINE DEFINITION", "# DEFINITION") == version("#", "#") != version("defaultValue: nvidia.com/gpu", "defaultValue: amd.com/gpu")


def test_what_only_places_a_run_does_not_change_its_workspace(wanted: Wanted, tmp_path: Path) -> None:
    def workspace(**settings: str) -> str:
        return plan(replace(wanted, settings=settings), tmp_path).arguments["workspace"]

    assert workspace(gpu_type="amd.com/gpu") == workspace() != workspace(loop_seed="1")


def test_cron_expressions_get_seconds() -> None:
    assert [six_fields(text) for text in ("0 6 * * 1", "30 0 6 * * MON-FRI", "@daily")] == ["0 0 6 * * 1", "30 0 6 * * MON-FRI", "@daily"]
    for text in ("", "6 *", "0 6 * * * * *", "0 6 * * ;"):
        with pytest.raises(InputError, match="five or six fields"):
            six_fields(text)
