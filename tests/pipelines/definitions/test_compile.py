"""The compiled pipeline: what Kubeflow gets."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from attrloop.pipelines.definitions.cluster import Cluster
from attrloop.pipelines.definitions.compile import compile_to

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # several times as fast
ETCD_LIMIT = 1_500_000  # bytes of one request
CLUSTER = Cluster(queue="attrloop", models_claim="base-models")


def compiled(path: Path, max_iterations: int = 3, cluster: Cluster = CLUSTER) -> dict[str, Any]:
    compile_to(path, max_iterations=max_iterations, cluster=cluster)
    return next(yaml.load_all(path.read_text(), Loader=LOADER))


@pytest.mark.parametrize("room", [0, 1, 3, 5])
def test_every_size_compiles_and_has_room_for_that_many_iterations(tmp_path: Path, room: int) -> None:
    spec = compiled(tmp_path / "loop.yaml", max_iterations=room)
    size = (tmp_path / "loop.yaml").stat().st_size
    print(f"room for {room} iterations: {size:,} bytes")
    assert size < ETCD_LIMIT / 4
    assert sum(name.startswith("comp-dpo") for name in spec["components"]) == room
    wanted = {"preflight", "annotate", "sft", "evaluate", "evaluate-test", "register-adapter", "promote", "report"}
    assert wanted <= set(spec["root"]["dag"]["tasks"])


def test_nothing_starts_before_preflight_has_passed(tmp_path: Path) -> None:
    tasks = compiled(tmp_path / "loop.yaml")["root"]["dag"]["tasks"]
    assert "dependentTasks" not in tasks["preflight"]
    starts = {
        name
        for name, task in tasks.items()
        if name != "preflight" and "preflight" not in task.get("dependentTasks", [])
    }
    assert starts == set(), "every other task waits for preflight"


def test_the_order_after_the_loop_is_test_register_promote_report(tmp_path: Path) -> None:
    tasks = compiled(tmp_path / "loop.yaml")["root"]["dag"]["tasks"]
    assert "evaluate-test" in tasks["register-adapter"]["dependentTasks"]
    assert "register-adapter" in tasks["promote"]["dependentTasks"]
    assert "promote" in tasks["report"]["dependentTasks"]
    assert "sft" in tasks["evaluate"]["dependentTasks"] and "annotate" in tasks["sft"]["dependentTasks"]


def test_a_step_is_never_skipped_by_the_platforms_cache(tmp_path: Path) -> None:
    compile_to(tmp_path / "loop.yaml")
    assert "enableCache: true" not in (tmp_path / "loop.yaml").read_text()


def test_every_parameter_and_artifact_is_described(tmp_path: Path) -> None:
    spec = compiled(tmp_path / "loop.yaml")
    named = {"iteration": spec["components"]["comp-iteration"]} | {
        name: entry for name, entry in spec["components"].items() if "executorLabel" in entry
    }
    bare = [
        key for key, about in spec["root"]["inputDefinitions"]["parameters"].items() if not about.get("description")
    ]
    for name, entry in named.items():
        for side in ("inputDefinitions", "outputDefinitions"):
            for kind in ("parameters", "artifacts"):
                bare += [
                    f"{name}.{key}"
                    for key, about in entry.get(side, {}).get(kind, {}).items()
                    if not about.get("description")
                ]
    assert bare == []


def test_every_parameter_that_is_no_resource_reaches_preflight(tmp_path: Path) -> None:
    """A pipeline parameter that preflight does not get would be silently without effect."""
    spec = compiled(tmp_path / "loop.yaml")
    offered = {
        name
        for name in spec["root"]["inputDefinitions"]["parameters"]
        if not name.startswith(("cpu_", "gpu_", "secret_"))
    }
    given = spec["root"]["dag"]["tasks"]["preflight"]["inputs"]["parameters"]
    assert offered == {"config", "workspace", "overrides"}
    assert {name: given[name] for name in offered} == {name: {"componentInputParameter": name} for name in offered}


@pytest.mark.parametrize("sampler", ["s", "", None])
def test_the_images_come_from_the_environment(tmp_path: Path, sampler: str | None) -> None:
    """A variable that is empty, as an unset one of a workflow is, names no image."""
    command = [sys.executable, "-m", "attrloop.pipelines.cli.main", "compile", "-o", str(tmp_path / "loop.yaml")]
    images = {"ATTRLOOP_WORKER_IMAGE": "w", "ATTRLOOP_TRAINER_IMAGE": "t"} | (
        {"ATTRLOOP_SAMPLER_IMAGE": sampler} if sampler is not None else {}
    )
    done = subprocess.run(command, env=images | {"PATH": "/usr/bin:/bin"}, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    spec = next(yaml.load_all((tmp_path / "loop.yaml").read_text(), Loader=LOADER))
    used = {
        name.removeprefix("exec-"): entry["container"]["image"]
        for name, entry in spec["deploymentSpec"]["executors"].items()
    }
    trains = {name: image for name, image in used.items() if name.startswith(("preflight", "sft", "dpo", "evaluate"))}
    samples = {name: image for name, image in used.items() if name.startswith("sample-chains")}
    assert set(trains.values()) == {"t"} and set(samples.values()) == {sampler or "t"}
    assert {image for name, image in used.items() if name not in trains | samples} == {"w"}
