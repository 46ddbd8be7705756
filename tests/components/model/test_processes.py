"""Two processes that share every batch learn what one learns, and one of them writes."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from attrloop.components.dpo import trainer as dpo
from attrloop.components.errors import AttrloopError
from attrloop.components.model.processes import STOPPED, processes_for, spread
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.workspace import Workspace
from attrloop.components.sft import trainer as sft
from attrloop.components.sft.train import ADAPTER, training_rows
from tests.components.model import work
from tests.small import change_config, some_pairs


@pytest.mark.slow
def test_work_is_done_in_every_process(tmp_path: Path) -> None:
    spread(work.leave_mark, 2, str(tmp_path))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"0": "2", "1": "2"}


@pytest.mark.slow
def test_the_reason_of_a_failure_comes_through(tmp_path: Path) -> None:
    with pytest.raises(AttrloopError, match=r"out of device memory\. Lower batch_size"):
        spread(work.fail_in_one, 2, str(tmp_path))


@pytest.mark.slow
def test_processes_that_were_asked_to_stop_end_the_task_as_one_does(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        spread(work.stop, 2, str(tmp_path))
    assert ended.value.code == STOPPED


@pytest.mark.slow
def test_when_the_task_is_asked_to_stop_every_process_has_time_to_save(tmp_path: Path) -> None:
    """The signal goes to the first process alone, as Kubernetes sends it."""
    imports = "from attrloop.components.model.processes import spread; from tests.components.model import work"
    command = [
        sys.executable,
        "-c",
        f"import sys; {imports}; spread(work.save_when_asked, 2, sys.argv[1])",
        str(tmp_path),
    ]
    with subprocess.Popen(command, cwd=Path(__file__).parents[3]) as process:
        while len(list(tmp_path.glob("ready-*"))) < 2:
            assert process.poll() is None
            time.sleep(0.1)
        process.terminate()
        assert process.wait(60) == STOPPED
    assert {path.name for path in tmp_path.glob("saved-*")} == {"saved-0", "saved-1"}


def test_a_batch_is_shared_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert [processes_for(size) for size in (1, 3, 4, 8, 9)] == [1, 3, 2, 2, 3]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert processes_for(8) == 1


def trained_by(processes: int, workspace: Path, stage: str) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """The metrics and the adapter of a stage trained by so many processes."""
    ws = Workspace.open(str(workspace))
    output = Artifact(ws.store, stage, {})
    arguments: tuple[Any, ...] = (sft.fit, processes, ws, output, training_rows(ws))
    if stage == "dpo":
        arguments = (dpo.fit, processes, ws, output, ADAPTER, some_pairs(ws))
    spread(*arguments)
    rows = [json.loads(line) for line in (output.folder / "metrics.jsonl").read_text().splitlines()]
    return rows, load_file(output.folder / "adapter" / "adapter_model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["again", "dpo"])
def test_two_processes_learn_what_one_learns(copy_of: Callable[[str], Path], tmp_path: Path, stage: str) -> None:
    one, two = copy_of("qwen2_5_vl"), tmp_path / "two"
    change_config(
        one,
        sft={"epochs": 8, "feature_noise": 0.0, "checkpoint_steps": 5},
        dpo={"epochs": 7, "checkpoint_steps": 5, "learning_rate": 2e-3},
    )
    shutil.copytree(one, two)
    (alone, adapter), (shared, other) = trained_by(1, one, stage), trained_by(2, two, stage)
    assert [row["step"] for row in shared] == [row["step"] for row in alone] and len(alone) >= 2, (
        "each line is written once"
    )
    for row, wanted in zip(shared, alone, strict=True):
        assert row.pop("rewards/accuracies", 0) == pytest.approx(wanted.pop("rewards/accuracies", 0), abs=0.1), (
            "a margin of 0 may fall on either side"
        )
        assert row == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    for name, value in other.items():
        torch.testing.assert_close(value, adapter[name], atol=1e-3, rtol=0)
