"""What GitHub and Cloud Build run, checked offline; each checker on a copy that breaks it too."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from attrloop.pipelines.cli.main import app
from manifests.check.build import ROOT as MANIFESTS
from manifests.check.build import build

ROOT = MANIFESTS.parent
WORKFLOWS = ROOT / ".github/workflows"


def run(program: str, *arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def zizmor(folder: Path) -> tuple[int, str]:
    return run("zizmor", "--offline", "--no-progress", "--persona=pedantic", folder)


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in yaml.safe_load((WORKFLOWS / name).read_text())["jobs"].values() for step in job["steps"]]


def test_zizmor_finds_nothing() -> None:
    code, said = zizmor(WORKFLOWS.parent)
    assert code == 0 and said.count("completed") == 5, said


@pytest.mark.parametrize(
    ("file", "right", "wrong", "finding"),
    [
        ("ci.yml", "checkout@3d3c42e5aac5ba805825da76410c181273ba90b1", "checkout@v7", "unpinned-uses"),
        ("ci.yml", "permissions: {}", "permissions: write-all", "excessive-permissions"),
        ("ci.yml", "persist-credentials: false", "fetch-depth: 0", "artipacked"),
        (
            "retrain.yml",
            '--data-digest "$DATA_DIGEST"',
            '--data-digest "${{ inputs.data_digest }}"',
            "template-injection",
        ),
        ("ci.yml", "  pull_request:", "  pull_request_target:", "dangerous-triggers"),
    ],
)
def test_zizmor_refuses_a_broken_copy(tmp_path: Path, file: str, right: str, wrong: str, finding: str) -> None:
    broken = Path(shutil.copytree(WORKFLOWS, tmp_path / ".github/workflows")) / file
    assert right in broken.read_text()
    broken.write_text(broken.read_text().replace(right, wrong, 1))
    code, said = zizmor(tmp_path)
    assert code != 0 and finding in said, said


FILES = [("vendor.github-workflows", path) for path in sorted(WORKFLOWS.glob("*.yml"))] + [
    ("vendor.cloudbuild", ROOT / "cloudbuild.yaml"),
    ("vendor.dependabot", ROOT / ".github/dependabot.yml"),
]


@pytest.mark.parametrize(("schema", "path"), FILES, ids=[path.name for _, path in FILES])
def test_schemas_hold_and_a_broken_copy_is_refused(tmp_path: Path, schema: str, path: Path) -> None:
    code, said = run("check-jsonschema", "--builtin-schema", schema, path)
    assert code == 0, said
    broken = tmp_path / path.name
    broken.write_text(re.sub("(?m)^( *)(steps|updates):", r"\1mistaken:", path.read_text(), count=1))
    code, said = run("check-jsonschema", "--builtin-schema", schema, broken)
    assert code == 1 and "Schema validation errors" in said, said


def test_retraining_calls_the_command_line_as_it_is() -> None:
    (step,) = (step for step in steps("retrain.yml") if step.get("name") == "Submit")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined] # a group's
    lines = step["run"].splitlines()
    assert [line.split()[:2] for line in lines] == [["attrloop", "compile"], ["attrloop", "submit"]]
    for line in lines:
        parameters = commands[line.split()[1]].params
        assert set(re.findall(r"(?<=\s)--[a-z-]+", line)) <= {
            option for parameter in parameters for option in parameter.opts
        }
    read = {str(parameter.envvar) for parameter in commands["submit"].params} | {
        "ATTRLOOP_WORKER_IMAGE",
        "ATTRLOOP_TRAINER_IMAGE",
        "ATTRLOOP_SAMPLER_IMAGE",
    }
    assert {name for name in step["env"] if name.startswith(("ATTRLOOP_", "KF_"))} <= read
    assert step["env"]["ATTRLOOP_AUTH"] == "token:KUBEFLOW_TOKEN" and "KUBEFLOW_TOKEN" in step["env"]


def test_retraining_compiles_a_pipeline_that_names_what_the_manifests_make(tmp_path: Path) -> None:
    (step,) = (step for step in steps("retrain.yml") if step.get("name") == "Submit")
    code, said = run("attrloop", *step["run"].splitlines()[0].split()[1:-1], tmp_path / "continue.yaml")
    assert code == 0, said
    _, platform = yaml.safe_load_all((tmp_path / "continue.yaml").read_text())
    used = list(platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values())
    made = {
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
        for one in build(MANIFESTS / "overlays/gke")
    }
    queues = {
        executor["podMetadata"]["labels"]["kueue.x-k8s.io/queue-name"] for executor in used if "podMetadata" in executor
    }
    claims = {mount["constant"] for executor in used for mount in executor.get("pvcMount", [])}
    assert {("LocalQueue", "attrloop-runs", name) for name in queues} | {
        ("PersistentVolumeClaim", "attrloop-runs", name) for name in claims
    } <= made
    assert (len(queues), len(claims)) == (1, 1)


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_change_of_anything_that_is_copied_into_an_image_builds_the_images() -> None:
    copied = {
        source
        for file in ROOT.glob("images/*/Containerfile")
        for line in re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", file.read_text())
        for source in line.split()
    }
    assert {"src", "components", "pyproject.toml"} <= copied
    watched = [
        path.removesuffix("/**")
        for path in yaml.safe_load((WORKFLOWS / "images.yml").read_text())[True]["push"]["paths"]
    ]
    missing = [one for one in copied if one.split("/")[0] not in watched]
    assert missing == ["README.md"], "which only describes the package"


def test_the_images_workflow_leaves_what_make_images_does(tmp_path: Path) -> None:
    (step,) = (step for step in steps("images.yml") if "images.build" in step.get("run", ""))
    (upload,) = (step for step in steps("images.yml") if "upload-artifact" in step.get("uses", ""))
    checkout, programs = tmp_path / "checkout", tmp_path / "bin"
    subprocess.run(["git", "clone", "--quiet", ROOT, checkout], check=True)
    (checkout / "gha-creds-1.json").write_text("{}")  # left by the step that authenticates
    programs.mkdir()
    named = "registry.example/attrloop/worker@sha256:1"
    program(
        programs / "docker",
        f"""case "$*" in
        *RepoDigests*) echo {named};;
        *Size*) echo 1;;
        run*) echo '{{"debian": [], "python": [["kfp", "2.17.0"]]}}';;
        esac""",
    )
    for name in ("gcloud", "pip"):
        program(programs / name, "exit 0")
    environment = {
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "REGISTRY": "registry.example/attrloop",
        "IMAGE": "worker",
    }
    done = subprocess.run(
        ["bash", "-e", "-c", step["run"]],
        cwd=checkout,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    left = checkout / upload["with"]["path"]
    assert (left / "images.env").read_text() == f"ATTRLOOP_WORKER_IMAGE={named}\n"
    assert "pkg:pypi/kfp@2.17.0" in (left / "worker.cdx.json").read_text()


@pytest.mark.parametrize(
    ("tag", "section", "code"),
    [("v1.2.0", "1.2.0 - 2026-11-26", 0), ("v1.2.1", "1.2.0 - 2026-11-26", 1), ("v1.2.0", "1.2.0 - unreleased", 1)],
)
def test_a_release_is_of_the_version_that_its_tag_names(tmp_path: Path, tag: str, section: str, code: int) -> None:
    (step,) = (step for step in steps("release.yml") if "GITHUB_REF_NAME" in step.get("run", "") and "env" not in step)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "attrloop"\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## {section}\n")
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "GITHUB_REF_NAME": tag}
    done = subprocess.run(["bash", "-e", "-c", step["run"]], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == code


def test_every_hook_of_pre_commit_is_a_tool_that_is_installed() -> None:
    code, said = run("pre-commit", "validate-config", ROOT / ".pre-commit-config.yaml")
    assert code == 0, said
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    programs = {hook["entry"].split()[0] for hook in local["hooks"]}
    assert local["repo"] == "local" and all(program.startswith(".venv/bin/") for program in programs)
    assert all(Path(sys.executable).with_name(Path(program).name).exists() for program in programs)


def test_no_workflow_uses_a_stored_key() -> None:
    text = "".join(path.read_text() for path in WORKFLOWS.glob("*.yml"))
    assert "secrets." not in text and "credentials_json" not in text
    assert text.count("workload_identity_provider:") == 2


@pytest.mark.parametrize(("severities", "code"), [("CRITICAL\nLOW", 1), ("HIGH\nLOW\nLOW", 0), ("", 0)])
def test_an_image_with_a_critical_vulnerability_is_refused(tmp_path: Path, severities: str, code: int) -> None:
    program(
        tmp_path / "gcloud",
        f'case "$*" in\n*list-vulnerabilities*) printf "{severities}";;\n*scan*) echo projects/p/scans/1;;\nesac',
    )
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", ROOT / ".ci/scan", "registry/worker@sha256:1"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr


def test_every_variable_of_a_workflow_is_explained() -> None:
    guide = (ROOT / "docs/on-a-cluster.md").read_text()
    rows = re.findall(r"(?m)^\| (`.*`) \| ([a-z, ]+) \|", guide[guide.index("### Variables of the workflows") :])
    explained = {
        (name, workflow)
        for names, workflows in rows
        for name in re.findall(r"[A-Z_]+", names)
        for workflow in workflows.split(", ")
    }
    assert explained == {
        (name, path.stem) for path in WORKFLOWS.glob("*.yml") for name in re.findall(r"\bvars\.(\w+)", path.read_text())
    }
