"""`make manifests`: schemas, kustomize and placeholders, on copies of the folder that break them."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from attrloop.components.run.config import AnnotateConfig, TrackingConfig
from attrloop.components.tracking.names import CHAMPION
from attrloop.pipelines.definitions.resources import MODELS, STEPS, parameters
from manifests.check.__main__ import main
from manifests.check.build import ROOT, Document, containers, schema_problems
from manifests.check.settings import FORMS

Check = Callable[..., tuple[int, str]]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """Runs the command; its exit code, and what it said."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        code = main([str(argument) for argument in arguments])
        return code, "".join(capsys.readouterr())

    return run


def test_both_overlays_pass_and_say_that_they_cannot_be_applied_yet() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "manifests.check"], cwd=ROOT.parent, capture_output=True, text=True, check=False
    )
    code, said = done.returncode, done.stdout + done.stderr
    assert code == 0, said
    assert "local: " in said and "gke: " in said
    assert said.count("placeholders left: not deployable yet") == 2


def test_a_deployment_is_refused_while_a_placeholder_is_left(check: Check) -> None:
    code, said = check("--deployable")
    assert code == 1
    assert (
        f"{ROOT}/components/images/kustomization.yaml: worker: "
        "placeholder registry.invalid/attrloop/worker@sha256:REPLACE. Give newName" in said
    )
    assert re.search(
        rf"{ROOT}/overlays/gke/settings.env:\d+: iamDomain: "
        "placeholder REPLACE.iam.gserviceaccount.com. Give <project>.iam",
        said,
    )


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A copy of the manifests in which every placeholder is replaced."""
    copy = Path(shutil.copytree(ROOT, tmp_path / "manifests"))
    images, settings = copy / "components/images/kustomization.yaml", copy / "overlays/gke/settings.env"
    images.write_text(
        images.read_text()
        .replace("sha256:REPLACE", "sha256:" + "0123456789abcdef" * 4)
        .replace("registry.invalid", "registry.example")
    )
    values = {"clusterLocation": "europe-west4", "controlPlane": "172.16.0.0/28", "baseRevision": "0123456789" * 4}
    text = settings.read_text()
    for key, value in values.items():
        text = text.replace(f"{key}=REPLACE", f"{key}={value}")
    settings.write_text(text.replace("REPLACE", "some-project"))
    return copy


def test_an_overlay_whose_placeholders_were_replaced_is_deployable(check: Check, filled: Path) -> None:
    code, said = check("--deployable", filled / "overlays/gke")
    assert (code, said.count("nothing left to replace")) == (0, 1), said


def test_an_overlay_whose_images_nobody_can_pull_is_not_deployable(check: Check, filled: Path) -> None:
    images = filled / "components/images/kustomization.yaml"
    images.write_text(images.read_text().replace("registry.example", "registry.invalid"))
    code, said = check("--deployable", filled / "overlays/gke")
    assert code == 1 and said.count("placeholder registry.invalid/") == 3, said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("project", "My Project"),
        ("iamDomain", "some-project"),
        ("artifacts", "some-bucket/mlflow"),
        ("artifacts", "gs://some-bucket"),
        ("clusterName", "projects/p/clusters/c"),
        ("clusterLocation", "Frankfurt"),
        ("controlPlane", "172.16.0.2"),
        ("controlPlane", "172.16.0.2/28"),
        ("controlPlane", "https://172.16.0.2/"),
        ("baseModel", "Qwen2.5-VL-3B-Instruct"),
        ("baseRevision", "main"),
        ("servingReplicas", "-1"),
    ],
)
def test_a_setting_of_the_wrong_form_is_refused(check: Check, filled: Path, key: str, wrong: str) -> None:
    settings = filled / "overlays/gke/settings.env"
    settings.write_text(re.sub(rf"(?m)^{key}=.*$", f"{key}={wrong}", settings.read_text()))
    code, said = check(filled / "overlays/gke")
    assert code == 1 and f"{key}: {wrong!r} has the wrong form. Give " in said, said


def test_every_setting_has_a_form() -> None:
    lines = (ROOT / "overlays/gke/settings.env").read_text().splitlines()
    keys = [line.partition("=")[0] for line in lines if "=" in line and not line.startswith("#")]
    assert keys == list(FORMS)


BROKEN: list[tuple[str, str, str, str]] = [
    ("base/mlflow.yaml", "readinessProbe:", "readynessProbe:", "readynessProbe"),
    ("base/mlflow.yaml", "minAvailable: 1", "minAvailable: [1]", "minAvailable"),
    ("base/limits.yaml", "kind: LimitRange", "kind: LimitRanges", "has no kind LimitRanges"),
    ("base/network.yaml", "podSelector: {}", "podSelectors: {}", "podSelectors"),
    (
        "components/kueue/queues.yaml",
        "v1beta2\nkind: LocalQueue",
        "v1alpha1\nkind: LocalQueue",
        "has no kind LocalQueue",
    ),
    ("components/kueue/queues.yaml", "nominalQuota: 8 }", "nominalQuotas: 8 }", "nominalQuotas"),
    (
        "components/kueue/queues.yaml",
        "- { name: memory, nominalQuota: 512Gi }",
        "- { name: disk, nominalQuota: 512Gi }",
        "must state cpu, memory, nvidia.com/gpu",
    ),
    ("components/gpu/classes.yaml", "spot: true }", "spots: true }", "spots"),
    (
        "components/gpu/classes.yaml",
        "whenUnsatisfiable: DoNotScaleUp",
        "whenUnsatisfiable: GiveUp",
        "whenUnsatisfiable",
    ),
    (
        "components/gpu/classes.yaml",
        "flexStart: { enabled: true }",
        "flexStart: { enabled: true }, spot: true",
        "exactly one of reservations, flexStart and spot",
    ),
    ("components/external-secrets/secrets.yaml", "refreshInterval: 1h", "refreshInterval: hourly", "refreshInterval"),
    (
        "components/external-secrets/secrets.yaml",
        "          serviceAccountRef",
        "          serviceAccountReference",
        "serviceAccountReference",
    ),
    ("components/monitoring/serving.yaml", "interval: 30s", "intervall: 30s", "intervall"),
    ("components/monitoring/serving.yaml", "[5m])))", "[5m]))", "unbalanced"),
    ("overlays/gke/kustomization.yaml", "- network.yaml", "- networks.yaml", "kustomize cannot build"),
    ("overlays/gke/settings.env", "artifacts=", "artefacts=", "kustomize cannot build"),
    ("overlays/gke/identities.yaml", "name: trainer", "name: trainor", "kustomize cannot build"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("file", "right", "wrong", "said"), BROKEN, ids=[wrong.strip() for _, _, wrong, _ in BROKEN])
def test_a_broken_copy_is_refused(check: Check, tmp_path: Path, file: str, right: str, wrong: str, said: str) -> None:
    broken = Path(shutil.copytree(ROOT, tmp_path / "manifests")) / file
    assert right in broken.read_text()
    broken.write_text(broken.read_text().replace(right, wrong, 1))
    code, answer = check(tmp_path / "manifests/overlays/gke")
    assert code == 1 and said in answer, answer


def test_a_kind_that_nobody_described_is_refused() -> None:
    (problem,) = schema_problems([{"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "a"}}])
    assert "example.com/v1 has no kind Gadget" in str(problem)


def test_the_same_document_twice_is_refused(overlays: dict[str, list[Document]]) -> None:
    assert [
        str(problem)
        for problem in schema_problems(overlays["local"] + overlays["local"][:1])
        if "twice" in str(problem)
    ]


def test_on_gke_every_account_that_calls_google_has_an_identity_of_its_own(overlays: dict[str, list[Document]]) -> None:
    accounts = {
        one["metadata"]["name"]: one["metadata"].get("annotations", {}).get("iam.gke.io/gcp-service-account")
        for one in overlays["gke"]
        if one["kind"] == "ServiceAccount"
    }
    roles = ("submitter", "annotator", "trainer", "evaluator", "promoter", "mlflow", "serving")
    assert accounts == {role: f"attrloop-{role}@REPLACE.iam.gserviceaccount.com" for role in roles} | {"postgres": None}


def test_on_gke_the_submitter_is_known_by_its_google_account_too(overlays: dict[str, list[Document]]) -> None:
    (binding,) = (one for one in overlays["gke"] if (one["kind"], one["metadata"]["name"]) == ("RoleBinding", "submit"))
    assert [(subject["kind"], subject["name"]) for subject in binding["subjects"]] == [
        ("ServiceAccount", "submitter"),
        ("User", "attrloop-submitter@REPLACE.iam.gserviceaccount.com"),
    ]


def test_before_there_is_a_champion_nothing_is_served_and_nobody_is_called(overlays: dict[str, list[Document]]) -> None:
    specs = {(one["kind"], one["metadata"]["name"]): one["spec"] for one in overlays["gke"] if "spec" in one}
    assert specs["Deployment", "serving"]["replicas"] == 0
    (down,) = (
        rule
        for rule in specs["PrometheusRule", "attrloop"]["groups"][0]["rules"]
        if rule["alert"] == "AttrloopServingDown"
    )
    assert "and kube_deployment_spec_replicas > 0" in down["expr"]


def test_the_base_model_is_loaded_where_serving_and_steps_look_for_it(
    overlays: dict[str, list[Document]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789" * 4
    cached = tmp_path / f"hub/models--Qwen--Qwen2.5-VL-3B-Instruct/snapshots/{commit}"
    cached.mkdir(parents=True)
    (cached / "config.json").write_text("{}")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    by_name = {where: container for where, _, container in containers(overlays["gke"])}
    serving = by_name["attrloop/Deployment/serving: container vllm"]
    homes = {("HF_HOME", f"{MODELS}/hub")}
    for namespace in ("attrloop", "attrloop-runs"):
        loader = by_name[f"{namespace}/Job/base-model: container base-model"]
        homes &= {(entry["name"], entry.get("value")) for entry in loader["env"]} & {
            (entry["name"], entry.get("value")) for entry in serving["env"]
        }
        assert loader["args"] == serving["args"][:2]
        program = [Path(sys.executable).with_name(loader["command"][0]), *loader["command"][1:]]
        done = subprocess.run(
            [*program, loader["args"][0], f"--revision={commit}"], capture_output=True, text=True, check=False
        )
        assert str(cached) in done.stdout, done.stderr
    assert homes


def test_pods_without_a_group_of_their_own_may_write_to_the_volume_of_models(
    overlays: dict[str, list[Document]],
) -> None:
    groups = {
        pod["securityContext"]["fsGroup"] for where, pod, _ in containers(overlays["gke"]) if "Job/base-model" in where
    }
    users = {
        line
        for file in ROOT.parent.glob("images/*/Containerfile")
        for line in file.read_text().splitlines()
        if line.startswith("USER")
    }
    assert [f"USER 10001:{group}" for group in groups] == sorted(users)


def test_names_are_those_that_the_code_has_by_default(overlays: dict[str, list[Document]]) -> None:
    specs = {(one["kind"], one["metadata"]["name"]): one["spec"] for one in overlays["gke"] if "spec" in one}
    command = specs["Deployment", "serving"]["template"]["spec"]["initContainers"][0]["command"]
    assert f"--artifact-uri=models:/{TrackingConfig().model_name}@{CHAMPION}/artifacts/adapter" in command
    assert specs["ExternalSecret", "annotation"]["data"][0]["secretKey"] == AnnotateConfig().key_env


def test_every_secret_that_the_operator_looks_for_is_in_the_guide(overlays: dict[str, list[Document]]) -> None:
    wanted = [
        entry["remoteRef"]["key"]
        for one in overlays["gke"]
        if one["kind"] == "ExternalSecret"
        for entry in one["spec"]["data"]
    ]
    guide = (ROOT.parent / "docs/on-a-cluster.md").read_text()
    assert sorted(re.findall(r"gcloud secrets create (\S+)", guide)) == sorted(wanted)


def test_what_pipelines_name_by_default_exists(overlays: dict[str, list[Document]]) -> None:
    steps, secrets = tuple(STEPS), ("annotation",)
    defaults = {name: parameter.default for name, parameter in parameters(steps, secrets).items()}
    made = {(one["kind"], one["metadata"]["name"]) for one in overlays["gke"]}
    classes = {("ComputeClass", defaults[f"gpu_{step}_nodes"]["cloud.google.com/compute-class"]) for step in steps}
    assert classes | {("ExternalSecret", defaults["secret_annotation"])} <= made
