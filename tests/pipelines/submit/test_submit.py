"""One submission, one run, whatever the network does."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from attrloop.components.errors import AttrloopError
from attrloop.components.run.config import load_config
from attrloop.components.storage.opening import open_store
from attrloop.pipelines.submit.submission import Wanted
from attrloop.pipelines.submit.submit import submit
from tests.pipelines.submit.conftest import IMAGE, Server, options

CHANGES = {
    "upload": "POST /pipelines/upload",
    "version": "POST /pipelines/upload_version",
    "experiment": "POST /experiments",
    "run": "POST /runs",
}
LOOKS = {
    "health": "GET /healthz",
    "pipelines": "GET /pipelines",
    "versions": "GET /pipelines/.*/versions",
    "experiments": "GET /experiments",
    "runs": "GET /runs",
}


def assert_one_of_each(server: Server) -> None:
    counts = {kind: len(server.rows(kind)) for kind in ("pipelines", "experiments", "runs")}
    assert counts == {"pipelines": 1, "experiments": 1, "runs": 1}
    assert sorted(version["name"] for version in server.rows("pipeline_versions"))[1:] == ["attribute-loop"], (
        "that of the submission, and the pipeline's first"
    )


def test_the_official_client_reads_what_was_made(
    server: Server, wanted: Wanted, loop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        submit(
            replace(wanted, settings={"loop.iterations": "1", "annotate.max_cost": "2.5", "cpu_cores": "3"}),
            server.destination(run_as="trainer"),
        )
        == 0
    )
    run_id = capsys.readouterr().out.splitlines()[-1]
    official = server.official()
    run = official.get_run(run_id)
    assert run.display_name.startswith("mugs-") and run.service_account == "trainer" and run.state == "PENDING"
    arguments = run.runtime_config.parameters
    assert json.loads(arguments["overrides"]) == {"loop.iterations": 1, "annotate.max_cost": 2.5}
    assert arguments["cpu_cores"] == "3"
    assert load_config(arguments["config"]) == load_config(wanted.config), "the config lies where the run looks for it"
    assert arguments["config"].startswith(arguments["workspace"] + "/")
    assert official.get_experiment(experiment_name="attrloop").experiment_id == run.experiment_id
    reference = run.pipeline_version_reference
    assert official.get_pipeline_id("attribute-loop") == reference.pipeline_id
    version = official.get_pipeline_version(reference.pipeline_id, reference.pipeline_version_id)
    assert version.display_name.startswith("abc123-") and version.description == "attrloop abc123"
    assert list(version.pipeline_spec.values()) == list(yaml.safe_load_all(loop.read_text())), (
        "the pipeline, and what is for Kubernetes alone"
    )


def test_a_config_in_a_bucket(server: Server, wanted: Wanted, config: Path, bucket: str) -> None:
    """Its paths start from its own folder, wherever it is put for the run."""
    near = config.read_text().replace(f"{bucket}/shop/", "")
    assert near != config.read_text()
    open_store(bucket).write("shop/config.yaml", near.encode())
    for _ in range(2):
        submit(replace(wanted, config=f"{bucket}/shop/config.yaml"), server.destination())
    (run,) = server.rows("runs")
    sent = run["runtime_config"]["parameters"]["config"]
    assert (
        sent.startswith(f"{bucket}/runs/mugs-") and load_config(sent).data.listings == f"{bucket}/shop/listings.jsonl"
    )


def test_new_content_of_the_same_files_is_another_run(server: Server, wanted: Wanted, bucket: str) -> None:
    for content in (b"{}", b"{}", b"{ }"):  # each in a process of its own: within one, a file is looked at once
        open_store(bucket).write("shop/listings.jsonl", content)
        submitter = server.attrloop("submit", *options(wanted), "--wait", "--every", "0.1")
        assert submitter.wait(60) == 0
    assert len(server.rows("runs")) == 2


def test_a_repeated_submission_joins_the_run(
    server: Server, wanted: Wanted, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        submit(wanted, server.destination())
    assert_one_of_each(server)
    out = capsys.readouterr().out.splitlines()
    assert out[3] == out[7] and "started" in out[2] and "joined (pending)" in out[6]


def test_new_data_code_or_arguments_are_another_run_of_the_same_pipeline(server: Server, wanted: Wanted) -> None:
    for changes in (
        {},
        {"data": "day-2"},
        {"revision": "def456"},
        {"settings": {"seed": "3"}},
        {"key": "by-hand"},
    ):
        submit(replace(wanted, **changes), server.destination(), wait=True, every=0.1)
    assert len(server.rows("runs")) == 5 and len(server.rows("pipelines")) == 1
    assert {row["name"][:6] for row in server.rows("pipeline_versions")} == {"attrib", "abc123", "def456"}
    assert len({row["runtime_config"]["parameters"]["workspace"] for row in server.rows("runs")}) == 2, (
        "the seed decides the outcome"
    )


def test_a_workspace_is_one_runs_alone(server: Server, wanted: Wanted) -> None:
    submit(wanted, server.destination())
    (first,) = server.rows("runs")
    with pytest.raises(
        AttrloopError,
        match=rf"run {first['run_id']} \({first['display_name']}\) is at work in gs://.*Wait for its end or stop it",
    ):
        submit(replace(wanted, data="day-2"), server.destination(experiment="elsewhere"))
    assert submit(replace(wanted, settings={"seed": "3"}), server.destination()) == 0, "that is another workspace"
    assert submit(wanted, server.destination(), wait=True, every=0.1) == 0, "its own run is joined"
    assert submit(replace(wanted, data="day-2"), server.destination()) == 0, "its turn has come"


def test_a_version_of_the_same_name_has_the_same_content(
    server: Server, wanted: Wanted, loop: Path, tmp_path: Path
) -> None:
    """A commit compiled for another image must not run as what was uploaded before."""
    changed = tmp_path / "changed.yaml"
    changed.write_text(loop.read_text().replace(IMAGE, IMAGE.replace("sha256:0", "sha256:1")))
    for pipeline in (wanted.pipeline, changed):
        submit(replace(wanted, pipeline=pipeline), server.destination(), wait=True, every=0.1)
    names = [row["name"] for row in server.rows("pipeline_versions") if row["name"].startswith("abc123-")]
    assert len(names) == len(set(names)) == 2 == len(server.rows("runs"))


@pytest.mark.slow
@pytest.mark.parametrize("place", [*CHANGES, *LOOKS])
@pytest.mark.parametrize("kind", ["drop", "503", "401"])
def test_a_passing_fault_leaves_one_run(server: Server, wanted: Wanted, kind: str, place: str) -> None:
    details = {} if kind == "drop" else {"status": int(kind)}
    server.fault("status" if details else "drop", (CHANGES | LOOKS)[place], times=1 if kind == "401" else 2, **details)
    assert submit(wanted, server.destination(), wait=True, every=0.1) == 0
    assert_one_of_each(server)


@pytest.mark.parametrize("place", CHANGES)
def test_an_answer_that_is_lost_leaves_one_run(server: Server, wanted: Wanted, place: str) -> None:
    server.fault("lose", CHANGES[place])
    assert submit(wanted, server.destination(), wait=True, every=0.1) == 0
    assert_one_of_each(server)


@pytest.mark.slow
@pytest.mark.parametrize("place", CHANGES)
def test_an_answer_that_comes_too_late_leaves_one_run(server: Server, wanted: Wanted, place: str) -> None:
    server.fault("slow", CHANGES[place], seconds=1.5)
    assert submit(wanted, server.destination(patience=15, timeout=(1, 1)), wait=True, every=0.5) == 0
    alive = [row for row in server.rows("runs") if row["state"] not in ("CANCELING", "CANCELED")]
    assert [row["state"] for row in alive] == ["SUCCEEDED"]
    assert len(server.rows("pipelines")) == len(server.rows("experiments")) == 1


@pytest.mark.parametrize(
    ("look", "change"), [("pipelines", "upload"), ("versions", "version"), ("experiments", "experiment")]
)
def test_what_somebody_else_made_meanwhile_is_used(server: Server, wanted: Wanted, look: str, change: str) -> None:
    """A look that finds nothing, followed by 409: another submitter was faster."""
    submit(wanted, server.destination(), wait=True, every=0.1)
    server.fault(
        "empty", LOOKS[look], times=2 if look == "experiments" else 1
    )  # the official client looks once more by itself
    submit(replace(wanted, key="another"), server.destination())
    assert server.seen()["requests"].count(CHANGES[change]) == 2, "the second was answered by 409"
    assert (
        len(server.rows("runs")) == 2
        and len(server.rows("pipeline_versions")) == 2
        and len(server.rows("experiments")) == 1
    )


@pytest.mark.slow
def test_submitters_at_the_same_moment_end_with_one_run(server: Server, wanted: Wanted) -> None:
    submit(replace(wanted, key="before"), server.destination(), wait=True, every=0.1)
    server.fault("slow", CHANGES["run"], times=3, seconds=4)  # each looks before any run of the others is there
    server.set(script=[["RUNNING", {}]] * 8 + [["SUCCEEDED", {}]])
    submitters = [server.attrloop("submit", *options(wanted), "--wait", "--every", "0.5") for _ in range(3)]
    assert [submitter.wait(60) for submitter in submitters] == [0, 0, 0]
    runs = [row for row in server.rows("runs") if row["display_name"] != "mugs-before"]
    assert sorted(row["state"] for row in runs) == ["CANCELING", "CANCELING", "SUCCEEDED"]


def test_after_a_failure_the_same_command_makes_another_attempt(server: Server, wanted: Wanted) -> None:
    server.set(script=[["FAILED", {}]])
    assert submit(wanted, server.destination(), wait=True) == 1
    server.set(script=[["SUCCEEDED", {}]])
    assert submit(wanted, server.destination(), wait=True) == 0
    assert submit(wanted, server.destination(), wait=True) == 0
    assert [row["state"] for row in server.rows("runs")] == ["FAILED", "SUCCEEDED"]
    assert len({row["runtime_config"]["parameters"]["workspace"] for row in server.rows("runs")}) == 1, (
        "it goes on from what was finished"
    )


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 503}, {"kind": "drop"}])
def test_a_server_that_stays_away_is_given_up(
    server: Server, wanted: Wanted, fault: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    server.set(faults=[{"match": ".*", "times": 1000, **fault}])
    begun = time.monotonic()
    with pytest.raises(AttrloopError, match=r"did not take the pipeline attribute-loop within 2 s: .* Check --host"):
        submit(wanted, server.destination(patience=2))
    assert time.monotonic() - begun < 10
    assert "Trying again for up to 2 s" in capsys.readouterr().err
    server.set(faults=[])
    assert server.rows("runs") == []


@pytest.mark.parametrize(
    ("status", "said"), [(401, "Check --auth"), (403, "Check --auth"), (400, "a fault"), (500, "a fault")]
)
def test_a_refusal_is_explained_at_once(server: Server, wanted: Wanted, status: int, said: str) -> None:
    server.fault("status", "POST /runs", times=1000, status=status)
    begun = time.monotonic()
    with pytest.raises(AttrloopError, match=f"refused to start the run: {status}.*{said}"):
        submit(wanted, server.destination())
    assert time.monotonic() - begun < 4
    assert server.rows("runs") == []


def test_a_page_to_log_in_on_is_not_taken_for_an_answer(server: Server, wanted: Wanted) -> None:
    server.fault("page", ".*", times=1000)
    with pytest.raises(AttrloopError, match=r"a web page in place of an answer.*Check --auth"):
        submit(wanted, server.destination())


def test_a_namespace_of_a_multi_user_server_is_used_everywhere(server: Server, wanted: Wanted) -> None:
    server.set(multi_user=True)
    for _ in range(2):
        submit(wanted, server.destination(namespace="team-a"))
    assert_one_of_each(server)
    assert {row["namespace"] for kind in ("pipelines", "experiments") for row in server.rows(kind)} == {"team-a"}
    with pytest.raises(AttrloopError, match="400 Bad Request: Namespace is"):
        submit(wanted, server.destination())


def test_submitting_imports_nothing_heavy(server: Server, wanted: Wanted) -> None:
    """A machine that only submits needs no torch, nor anything else that computes."""
    heavy = ("torch", "transformers", "trl", "peft", "mlflow", "numpy", "polars", "datasets")
    code = f"""
import sys
from attrloop.pipelines.cli.main import app
app({["submit", *options(wanted), "--host", server.url, "--wait", "--every", "0.1"]!r}, standalone_mode=False)
sys.exit(repr([name for name in {heavy!r} if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "[]" and server.rows("runs")[0]["state"] == "SUCCEEDED"
