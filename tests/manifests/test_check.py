"""`make manifests`: schemas, kustomize and placeholders, on copies of the folder that break them."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from attrloop.components.shared.config import AnnotateConfig, TrackingConfig
from attrloop.components.shared.tracking import CHAMPION
from attrloop.pipelines.resources import STAGES, parameters
from manifests.check.__main__ import main
from manifests.check.build import ROOT, Document, schema_problems

Check = Callable[..., tuple[int, str]]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """Runs the command; its exit code, and what it said."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        code = main([str(argument) for argument in arguments])
        return code, "".join(capsys.readouterr())

    return run


def test_both_overlays_pass_and_say_that_they_cannot_be_applied_yet() -> None:
    done = subprocess.run([sys.executable, "-m", "manifests.check"], cwd=ROOT.parent, capture_output=True, text=True, check=False)
    code, said = done.returncode, done.stdout + done.stderr
    assert code == 0, said
    assert "local: " in said and "gke: " in said
    assert said.count("placeholders left: not deployable yet") == 2


def test_a_deployment_is_refused_while_a_placeholder_is_left(check: Check) -> None:
    code, said = check("--deployable")
    assert code == 1
    assert "attrloop/Deployment/mlflow: spec.template.spec.containers.0.image: placeholder registry.invalid/attrloop/worker@sha256:REPLACE" in said
    assert "placeholder attrloop-trainer@REPLACE.iam.gserviceaccount.com" in said


def test_an_overlay_whose_placeholders_were_replaced_is_deployable(check: Check, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(ROOT, tmp_path / "manifests"))
    images, settings = copy / "components/images/kustomization.yaml", copy / "overlays/gke/settings.env"
    images.write_text(images.read_text().replace("sha256:REPLACE", "sha256:" + "0123456789abcdef" * 4).replace("registry.invalid", "registry.example"))
    settings.write_text(settings.read_text().replace("controlPlane=REPLACE", "controlPlane=172.16.0.0/28").replace("REPLACE", "some-project"))
    code, said = check("--deployable", copy / "overlays/gke")
    assert (code, said.count("nothing left to replace")) == (0, 1), said


BROKEN: list[tuple[str, str, str, str]] = [
    ("base/mlflow.yaml", "readinessProbe:", "readynessProbe:", "readynessProbe"),
    ("base/mlflow.yaml", "minAvailable: 1", "minAvailable: [1]", "minAvailable"),
    ("base/limits.yaml", "kind: LimitRange", "kind: LimitRanges", "knows no LimitRanges"),
    ("base/network.yaml", "podSelector: {}", "podSelectors: {}", "podSelectors"),
    ("components/kueue/queues.yaml", "v1beta2\nkind: LocalQueue", "v1alpha1\nkind: LocalQueue", "knows no LocalQueue"),
    ("components/kueue/queues.yaml", "nominalQuota: 8 }", "nominalQuotas: 8 }", "nominalQuotas"),
    (
        "components/kueue/queues.yaml",
        "- { name: memory, nominalQuota: 512Gi }",
        "- { name: disk, nominalQuota: 512Gi }",
        "must state cpu, memory, nvidia.com/gpu",
    ),
    ("components/gpu/classes.yaml", "spot: true }", "spots: true }", "spots"),
    ("components/gpu/classes.yaml", "whenUnsatisfiable: DoNotScaleUp", "whenUnsatisfiable: GiveUp", "whenUnsatisfiable"),
    (
        "components/gpu/classes.yaml",
        "flexStart: { enabled: true }",
        "flexStart: { enabled: true }, spot: true",
        "exactly one of reservations, flexStart and spot",
    ),
    ("components/external-secrets/secrets.yaml", "refreshInterval: 1h", "refreshInterval: hourly", "refreshInterval"),
    ("components/external-secrets/secrets.yaml", "          serviceAccountRef", "          serviceAccountReference", "serviceAccountReference"),
    ("components/monitoring/serving.yaml", "interval: 30s", "intervall: 30s", "intervall"),
    ("components/monitoring/serving.yaml", "== 1)", "== 1", "unbalanced"),
    ("overlays/gke/kustomization.yaml", "- network.yaml", "- networks.yaml", "kustomize cannot build"),
    ("overlays/gke/settings.env", "artifacts=", "artefacts=", "kustomize cannot build"),
    ("overlays/gke/identities.yaml", "name: trainer", "name: trainor", "kustomize cannot build"),
]


@pytest.mark.parametrize(("file", "right", "wrong", "said"), BROKEN, ids=[wrong.strip() for _, _, wrong, _ in BROKEN])
def test_a_broken_copy_is_refused(check: Check, tmp_path: Path, file: str, right: str, wrong: str, said: str) -> None:
    broken = Path(shutil.copytree(ROOT, tmp_path / "manifests")) / file
    assert right in broken.read_text()
    broken.write_text(broken.read_text().replace(right, wrong, 1))
    code, answer = check(tmp_path / "manifests/overlays/gke")
    assert code == 1 and said in answer, answer


def test_a_kind_that_nobody_described_is_refused() -> None:
    (problem,) = schema_problems([{"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "a"}}])
    assert "example.com/v1 knows no Gadget" in str(problem)


def test_the_same_document_twice_is_refused(overlays: dict[str, list[Document]]) -> None:
    assert [str(problem) for problem in schema_problems(overlays["local"] + overlays["local"][:1]) if "twice" in str(problem)]


def test_on_gke_every_account_that_calls_google_has_an_identity_of_its_own(overlays: dict[str, list[Document]]) -> None:
    accounts = {
        one["metadata"]["name"]: one["metadata"].get("annotations", {}).get("iam.gke.io/gcp-service-account")
        for one in overlays["gke"]
        if one["kind"] == "ServiceAccount"
    }
    roles = ("submitter", "annotator", "trainer", "evaluator", "promoter", "mlflow", "serving")
    assert accounts == {role: f"attrloop-{role}@REPLACE.iam.gserviceaccount.com" for role in roles} | {"postgres": None}


def test_names_are_those_that_the_code_has_by_default(overlays: dict[str, list[Document]]) -> None:
    specs = {(one["kind"], one["metadata"]["name"]): one["spec"] for one in overlays["gke"] if "spec" in one}
    command = specs["Deployment", "serving"]["template"]["spec"]["initContainers"][0]["command"]
    assert f"--artifact-uri=models:/{TrackingConfig().model_name}@{CHAMPION}/artifacts/adapter" in command
    assert specs["ExternalSecret", "annotation"]["data"][0]["secretKey"] == AnnotateConfig().key_env


def test_what_pipelines_name_by_default_exists(overlays: dict[str, list[Document]]) -> None:
    stages, secrets = tuple(STAGES), ("annotation",)
    defaults = {name: parameter.default for name, parameter in parameters(stages, secrets).items()}
    made = {(one["kind"], one["metadata"]["name"]) for one in overlays["gke"]}
    classes = {("ComputeClass", defaults[f"gpu_{stage}_nodes"]["cloud.google.com/compute-class"]) for stage in stages}
    assert classes | {("ExternalSecret", defaults["secret_annotation"])} <= made
