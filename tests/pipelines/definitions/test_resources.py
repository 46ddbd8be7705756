"""What the compiled pipeline asks of a cluster: what can be set for a run, and what is fixed when it is compiled."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from attrloop.pipelines.definitions.cluster import LOCAL, Cluster
from attrloop.pipelines.definitions.compile import NAMES, Name, compile_to
from attrloop.pipelines.definitions.resources import STEPS

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # several times as fast
CLUSTER = Cluster(
    retries=4, back_off=30, timeout_hours=2, queue="team", models_claim="weights", key_env="ANNOTATOR_KEY"
)
TRACKED = ("preflight", "evaluate-test", "register-adapter", "promote", "report")
POOLS = {
    "sft": "sft",
    "sample-chains": "sample",
    "dpo": "dpo",
    "evaluate": "evaluate",
    "evaluate-test": "evaluate",
    "predict": "predict",
}


class Compiled:
    """A compiled pipeline: every step with its container, its task and what Kubernetes is told of it."""

    def __init__(self, name: Name, folder: Path, cluster: Cluster) -> None:
        self.name = name
        compile_to(folder / f"{name}.yaml", name, 2, cluster)
        self.text = (folder / f"{name}.yaml").read_text()
        self.spec, *platforms = yaml.load_all(self.text, Loader=LOADER)
        self.platform = platforms[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        self.parameters: dict[str, dict[str, Any]] = self.spec["root"]["inputDefinitions"]["parameters"]

    def dags(self) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "root", self.spec["root"]
        yield from ((name, entry) for name, entry in self.spec["components"].items() if "dag" in entry)

    def steps(self) -> Iterator[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]]:
        """(component, its task, its container, what Kubernetes is told) of every step."""
        for _, entry in self.dags():
            for task in entry["dag"]["tasks"].values():
                component = self.spec["components"][task["componentRef"]["name"]]
                if label := component.get("executorLabel"):
                    name = re.sub(r"-\d+$", "", label.removeprefix("exec-"))
                    yield (
                        name,
                        task,
                        self.spec["deploymentSpec"]["executors"][label]["container"],
                        self.platform.get(label, {}),
                    )


@pytest.fixture(scope="module", params=NAMES)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return Compiled(request.param, tmp_path_factory.mktemp("compiled"), CLUSTER)


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return Compiled("loop", tmp_path_factory.mktemp("compiled"), CLUSTER)


def test_every_step_has_parameters_of_its_own_described_and_with_a_default(loop: Compiled) -> None:
    wanted = {
        f"gpu_{step}_{what}" for step in STEPS if step != "predict" for what in ("count", "cpu", "memory", "nodes")
    }
    wanted |= {
        "gpu_type",
        "gpu_tolerations",
        "gpu_sample_workers",
        "cpu_cores",
        "cpu_memory",
        "secret_annotation",
        "secret_hub",
        "secret_tracking",
    }
    assert {name for name in loop.parameters if name.startswith(("gpu_", "cpu_", "secret_"))} == wanted
    for name in wanted:
        assert loop.parameters[name]["description"] and loop.parameters[name]["defaultValue"], name


def origin(compiled: Compiled, task: dict[str, Any], name: str) -> str:
    """The pipeline's parameter behind an input of a task, through every condition, loop and inner pipeline."""
    owner = next(
        outer for outer, entry in compiled.dags() if any(task is one for one in entry["dag"]["tasks"].values())
    )
    while owner != "root":
        caller, outer = next(
            (one, outer)
            for outer, entry in compiled.dags()
            for one in entry["dag"]["tasks"].values()
            if one["componentRef"]["name"] == owner
        )
        name, owner = caller["inputs"]["parameters"][name]["componentInputParameter"], outer
    return name


def reads(compiled: Compiled, task: dict[str, Any], placeholder: str) -> str:
    """The pipeline's parameter that a placeholder of a task's container stands for."""
    found = re.fullmatch(r"\{\{\$\.inputs\.parameters\['(.*)'\]\}\}", placeholder)
    assert found, placeholder
    return origin(compiled, task, task["inputs"]["parameters"][found[1]]["componentInputParameter"])


def test_accelerators_memory_and_nodes_come_from_the_parameters_of_the_step(compiled: Compiled) -> None:
    """Also inside conditions and loops, into which KFP does not hand them by itself."""
    seen = set()
    for name, task, container, platform in compiled.steps():
        if name not in POOLS:
            assert "accelerator" not in container.get("resources", {}), name
            continue
        seen.add(name)
        step, resources = POOLS[name], container["resources"]
        for key, value in (
            ("resourceCpuLimit", "cpu"),
            ("resourceCpuRequest", "cpu"),
            ("resourceMemoryLimit", "memory"),
            ("resourceMemoryRequest", "memory"),
        ):
            assert reads(compiled, task, resources[key]) == f"gpu_{step}_{value}"
        assert reads(compiled, task, resources["accelerator"]["resourceCount"]) == f"gpu_{step}_count"
        assert reads(compiled, task, resources["accelerator"]["resourceType"]) == "gpu_type"
        assert (
            origin(compiled, task, platform["nodeSelector"]["nodeSelectorJson"]["componentInputParameter"])
            == f"gpu_{step}_nodes"
        )
        assert [
            origin(compiled, task, one["tolerationJson"]["componentInputParameter"]) for one in platform["tolerations"]
        ] == ["gpu_tolerations"]
    assert (
        seen
        == {
            "loop": set(POOLS) - {"predict"},
            "continue": set(POOLS) - {"predict", "sft"},
            "predict": {"predict"},
            "annotate": set(),
        }[compiled.name]
    )


def test_what_is_fixed_at_compilation_is_in_every_pod_that_it_concerns(compiled: Compiled) -> None:
    for name, task, container, platform in compiled.steps():
        assert platform["activeDeadlineSeconds"] == "7200", name
        checks = name in ("preflight", "prepare-prediction")
        retry = {"backoffDuration": "30s", "backoffFactor": 2.0, "backoffMaxDuration": "1800s", "maxRetryCount": 4}
        assert task.get("retryPolicy") == (None if checks else retry), name
        if name in POOLS:
            assert platform["emptyDirMounts"] == [
                {"medium": "Memory", "mountPath": "/dev/shm", "sizeLimit": "8Gi", "volumeName": "shared-memory"}
            ]
            assert platform["podMetadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "team"}
            assert [mount["constant"] for mount in platform["pvcMount"]] == ["weights"]
            assert container["env"] == [
                {"name": "HF_HUB_OFFLINE", "value": "0"},
                {"name": "HF_HOME", "value": "/models/hub"},
            ]
        else:
            assert "podMetadata" not in platform and "emptyDirMounts" not in platform


def test_secrets_come_by_name_to_those_who_need_them_and_to_no_other(loop: Compiled) -> None:
    held: dict[str, set[str]] = {}
    for name, task, _, platform in loop.steps():
        for secret in platform.get("secretAsEnv", []):
            assert secret["optional"]
            for entry in secret["keyToEnv"]:
                assert entry["envVar"] == entry["secretKey"]
                held.setdefault(
                    origin(loop, task, secret["secretNameParameter"]["componentInputParameter"]), set()
                ).add(f"{name} {entry['envVar']}")
    assert held.pop("secret_annotation") == {"preflight ANNOTATOR_KEY", "annotate ANNOTATOR_KEY"}
    assert held.pop("secret_hub") == {f"{name} HF_TOKEN" for name in ("preflight", *POOLS) if name != "predict"}
    tracking = {f"{name} MLFLOW_TRACKING_{what}" for name in TRACKED for what in ("TOKEN", "USERNAME", "PASSWORD")}
    assert held == {"secret_tracking": tracking}


def test_nothing_is_cached_by_the_platform(compiled: Compiled) -> None:
    assert "enableCache: true" not in compiled.text


def test_on_one_machine_nothing_is_tried_again_and_no_volume_is_wanted(tmp_path: Path) -> None:
    local = Compiled("loop", tmp_path, LOCAL)
    for name, task, container, platform in local.steps():
        assert "retryPolicy" not in task and "pvcMount" not in platform and "env" not in container, name


def test_the_command_line_offers_what_is_fixed_at_compilation_and_loads_no_torch(tmp_path: Path) -> None:
    options = [
        "--retries",
        "4",
        "--timeout-hours",
        "2",
        "--queue",
        "team",
        "--models-claim",
        "weights",
        "--key-env",
        "ANNOTATOR_KEY",
    ]
    code = """
import sys
from attrloop.pipelines.cli.main import app
app(sys.argv[1:], standalone_mode=False)
print('torch' in sys.modules)
"""
    command = [
        sys.executable,
        "-c",
        code,
        "compile",
        "--max-iterations",
        "1",
        "-o",
        str(tmp_path / "cli.yaml"),
        *options,
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"
    _, platform = yaml.load_all((tmp_path / "cli.yaml").read_text(), Loader=LOADER)
    text = json.dumps(platform)
    assert (
        all(part in text for part in ('"7200"', '"team"', '"weights"', '"ANNOTATOR_KEY"'))
        and "maxRetryCount: 4" in (tmp_path / "cli.yaml").read_text()
    )
