"""What is checked before anything is sent."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attrloop.components.errors import InputError, Problem
from attrloop.components.run.config import PATHS, load_config
from attrloop.pipelines.definitions.compile import Name, compile_to
from attrloop.pipelines.submit.parameters import Compiled, parse, read_compiled
from attrloop.pipelines.submit.submission import Wanted, plan
from attrloop.pipelines.submit.submit import schedule, submit
from tests.pipelines.submit.conftest import IMAGE, Server, with_images


def problems(wanted: Wanted, folder: Path) -> list[Problem]:
    with pytest.raises(InputError) as caught:
        plan(wanted, folder)
    return caught.value.problems


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_sent(server: Server, wanted: Wanted) -> None:
    faulty = replace(
        wanted,
        settings={
            "iterations": "2",
            "data_listings": "gs://b/l.jsonl",
            "loop-seed": "1",
            "sample.chains": "many",
            "gpu_type": "x" * 10_001,
            "zzz": "1",
            "cpu_cores": "",
        },
    )
    with pytest.raises(InputError) as caught:
        submit(faulty, server.destination())
    said = str(caught.value)
    assert "7 problems" in said and "--set cpu_cores: the value is empty" in said
    assert "--set iterations: attribute-loop has no such parameter. Did you mean loop.iterations?" in said
    assert (
        "Did you mean seed?" in said
        and "Did you mean data.listings?" in said
        and "--set zzz: attribute-loop has no such parameter. It has config, cpu_cores, " in said
    )
    assert (
        "--set sample.chains: Input should be a valid integer" in said
        and "--set gpu_type: longer than the 10,000 bytes" in said
    )
    assert server.sent() == []


def test_what_has_no_default_must_be_given(wanted: Wanted, loop: Path, tmp_path: Path) -> None:
    file, runs = "Give the config file", "Give --runs gs://BUCKET/runs or s3://BUCKET/runs (or ATTRLOOP_RUNS)"
    for given, remedies in (
        (Wanted(pipeline=loop), {"config": file, "workspace": runs}),
        (replace(wanted, runs=""), {"workspace": runs}),
        (replace(wanted, config=""), {"config": file, "workspace": f"{file}, which names it"}),
    ):
        assert {problem.where: problem.remedy for problem in problems(given, tmp_path)} == remedies
    for bucket in ("gs://bucket", "s3://bucket"):
        settings = {"config": f"{bucket}/config.yaml", "workspace": f"{bucket}/run"}
        assert plan(Wanted(pipeline=loop, settings=settings), tmp_path).arguments == settings


@pytest.mark.parametrize("runs", ["bucket/runs", "/mnt/runs", "ftp://bucket/runs", "gs://", "gs:///runs"])
def test_only_a_bucket_holds_runs(server: Server, wanted: Wanted, runs: str) -> None:
    faulty = replace(wanted, runs=runs)
    with pytest.raises(
        InputError, match=f"1 problem found:\n  - --runs {runs}: .*Give gs://BUCKET/FOLDER or s3://BUCKET/FOLDER"
    ):
        submit(faulty, server.destination())
    with pytest.raises(InputError, match="1 problem found"):
        schedule(faulty, server.destination(), "@daily")
    assert server.sent() == []


def test_a_workspace_or_config_that_is_set_lies_in_a_bucket_too(wanted: Wanted, tmp_path: Path) -> None:
    found = problems(
        replace(wanted, config="", settings={"workspace": "gs://bucket", "config": wanted.config}), tmp_path
    )
    assert [problem.where for problem in found] == [f"--set config {wanted.config}", "--set workspace gs://bucket"]
    with pytest.raises(InputError, match="--set workspace: the value is empty"):
        plan(replace(wanted, settings={"workspace": ""}), tmp_path)


def test_a_pipeline_without_images_is_refused(server: Server, wanted: Wanted, tmp_path: Path) -> None:
    local = tmp_path / "local.yaml"
    compile_to(local, max_iterations=1)
    for send in (
        lambda faulty: submit(faulty, server.destination()),
        lambda faulty: schedule(faulty, server.destination(), "@daily"),
    ):
        with pytest.raises(
            InputError,
            match=r"1 problem found:\n.*local\.yaml: .*ATTRLOOP_WORKER_IMAGE and ATTRLOOP_TRAINER.*build/images\.env",
        ):
            send(replace(wanted, pipeline=local))
    assert server.sent() == []


def test_a_pipeline_with_too_little_room_is_refused(wanted: Wanted, tmp_path: Path) -> None:
    (problem,) = problems(replace(wanted, settings={"loop.iterations": "2"}), tmp_path)
    assert (
        problem.what == "has room for 1 iterations, and the config wants 2" and "--max-iterations 2" in problem.remedy
    )


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
    read = parse({"p": text}, Compiled("pipe", {"p": {"parameterType": kind}}, frozenset(), 0, ""))["p"]
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("NUMBER_INTEGER", "1.5"),
        ("NUMBER_DOUBLE", "nan"),
        ("BOOLEAN", "yes"),
        ("LIST", '{"a": 1}'),
        ("STRUCT", "[1]"),
        ("STRUCT", "{a}"),
    ],
)
def test_a_text_of_another_type_is_refused(kind: str, text: str) -> None:
    with pytest.raises(InputError, match="is not"):
        parse({"p": text}, Compiled("pipe", {"p": {"parameterType": kind}}, frozenset(), 0, ""))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "a: [",
        "- 1",
        "root: {}",
        "root: {inputDefinitions: 1}\npipelineInfo: {name: x}\ndeploymentSpec: {executors: {}}",
    ],
)
def test_only_compiled_pipelines_are_taken(tmp_path: Path, content: str) -> None:
    (tmp_path / "p.yaml").write_text(content)
    with pytest.raises(InputError, match=r"p\.yaml: not a compiled pipeline"):
        read_compiled(tmp_path / "p.yaml")
    with pytest.raises(InputError, match="no such file"):
        read_compiled(tmp_path / "absent.yaml")


def test_a_setting_is_checked_as_the_config_is(wanted: Wanted, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--set loop\.iterations: .*less than or equal to 5"):
        plan(replace(wanted, settings={"loop.iterations": "9"}), tmp_path)


def test_the_loop_is_compiled_with_room_for_the_iterations_wanted(server: Server, wanted: Wanted) -> None:
    images = {"ATTRLOOP_WORKER_IMAGE": IMAGE, "ATTRLOOP_TRAINER_IMAGE": IMAGE}
    for asked, room in (("1", 3), ("5", 5)):
        submitter = server.attrloop(
            "submit", wanted.config, "--runs", wanted.runs, "--set", f"loop.iterations={asked}", **images
        )
        assert submitter.wait(60) == 0
        spec = server.rows("pipeline_versions")[-1]["pipeline_spec"]["pipeline_spec"]
        assert sum(name.startswith("comp-dpo") for name in spec["components"]) == room


def test_files_of_this_machine_are_refused(wanted: Wanted, config: Path, tmp_path: Path) -> None:
    config.write_text(
        "name: mugs\ndata: {catalogue_schema: schema.yaml, listings: listings.jsonl}\n"
        "model: {base: some/model}\nloop: {iterations: 1}\n"
    )
    assert [problem.where for problem in problems(wanted, tmp_path)] == ["data.catalogue_schema", "data.listings"]
    there = {"data.catalogue_schema": "gs://bucket/schema.yaml", "data.listings": "gs://bucket/listings.jsonl"}
    sent = plan(replace(wanted, settings=there, data="2024-05"), tmp_path).arguments
    assert json.loads(sent["overrides"]) == there
    for name in (*PATHS, "model.base"):
        paths = ["gs://bucket/images", str(tmp_path)] if name == "data.allowed_folders" else str(tmp_path)
        settings = {**there, name: paths if isinstance(paths, str) else json.dumps(paths)}
        found = problems(replace(wanted, settings=settings, data="2024-05"), tmp_path)
        assert [(problem.where, problem.what.split()[0]) for problem in found] == [(f"--set {name}", str(tmp_path))]


def test_the_key_tells_data_code_config_and_arguments_apart(wanted: Wanted, config: Path, tmp_path: Path) -> None:

    def key(**changes: Any) -> str:
        return plan(replace(wanted, **changes), tmp_path).key

    first = key()
    assert key() == first and key(data="abc") != first and key(settings={"gpu_sft_count": "2"}) != first
    assert key(revision="def") != first and key(runs="gs://elsewhere") != first and key(key="week-7") == "week-7"
    config.write_text(config.read_text() + "sample: {temperature: 0.9}\n")
    assert key() != first


def test_each_pipeline_and_adapter_has_a_workspace_of_its_own(wanted: Wanted, tmp_path: Path) -> None:
    def workspace(pipeline: Name, **settings: str) -> str:
        file = with_images(tmp_path / f"{pipeline}.yaml", pipeline)
        return plan(replace(wanted, pipeline=file, settings=settings), tmp_path).arguments["workspace"]

    assert workspace("loop").endswith(f"/runs/{load_config(wanted.config).run_name}"), "as attrloop run calls it"
    assert (
        len(
            {
                workspace("loop"),
                workspace("continue"),
                workspace("predict"),
                workspace("continue", adapter="models:/shoes/2"),
            }
        )
        == 4
    )


def test_the_order_of_chance_in_which_kfp_writes_its_comments_makes_no_other_version(
    loop: Path, tmp_path: Path
) -> None:
    def version(old: str, new: str) -> str:
        file = tmp_path / "pipeline.yaml"
        text = loop.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))
        return plan(
            Wanted(pipeline=file, settings={"config": "gs://bucket/config.yaml", "workspace": "gs://bucket/run"}),
            tmp_path,
        ).version

    assert (
        version("# PIPELINE DEFINITION", "# DEFINITION")
        == version("#", "#")
        != version("defaultValue: nvidia.com/gpu", "defaultValue: amd.com/gpu")
    )


def test_what_only_places_a_run_does_not_change_its_workspace(wanted: Wanted, tmp_path: Path) -> None:
    def workspace(**settings: str) -> str:
        return plan(replace(wanted, settings=settings), tmp_path).arguments["workspace"]

    assert workspace(gpu_type="amd.com/gpu") == workspace() != workspace(seed="1")
