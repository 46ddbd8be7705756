"""The loop's control flow, run from compiled YAML by kfp.local, with scripted accuracies in place of an iteration."""

import json
from pathlib import Path

import pytest
from kfp import compiler, dsl

from attrloop.components.console import PlainConsole
from attrloop.components.run.config import DataConfig, LoopConfig, ModelConfig, RunConfig
from attrloop.components.run.state import LoopState, Outcome
from attrloop.components.run.workspace import Workspace
from attrloop.pipelines.definitions.cluster import LOCAL
from attrloop.pipelines.definitions.iteration import unroll
from attrloop.pipelines.definitions.resources import Resources, with_resources
from attrloop.pipelines.local.runner import run_pipeline


@dsl.component(base_image="attrloop-python:dev", install_kfp_package=False)
def scripted(workspace: str, stage: str, state: str) -> str:
    """Takes the stage's accuracy from `script.json` and leaves a mark that it ran."""
    import json
    from pathlib import Path

    from attrloop.components.run.config import RunConfig
    from attrloop.components.run.state import LoopState, Outcome

    root = Path(workspace)
    with (root / "ran.txt").open("a") as file:
        file.write(f"{stage} from {LoopState.model_validate_json(state).latest.adapter}\n")
    macro = json.loads((root / "script.json").read_text())[stage]
    outcome = Outcome(stage=stage, adapter=f"{stage}/dpo/adapter", macro=macro)
    gain = RunConfig.model_validate_json((root / "config.json").read_text()).loop.min_gain
    return LoopState.model_validate_json(state).after(outcome, gain).model_dump_json()


@dsl.component(base_image="attrloop-python:dev", install_kfp_package=False)
def consumer(workspace: str, state: str) -> str:
    """Stands for what follows the loop and reads its state."""
    from pathlib import Path

    (Path(workspace) / "after.json").write_text(state)
    return state


@dsl.pipeline(name="iteration")
def body(workspace: str, stage: str, state: str) -> str:
    return scripted(workspace=workspace, stage=stage, state=state).output


@dsl.pipeline(name="loop-of-three")
@with_resources(LOCAL)
def loop_of_three(workspace: str, state: str, *, resources: Resources) -> str:
    last = unroll(workspace, state, 3, body, resources)
    consumer(workspace=workspace, state=last)
    return last


def run_loop(folder: Path, iterations: int, accuracies: list[float]) -> tuple[LoopState, list[str]]:
    """Runs the loop; returns its final state and which iterations ran, from which adapter."""
    config = RunConfig(
        data=DataConfig(catalogue_schema="s", listings="l"),
        model=ModelConfig(base="b"),
        loop=LoopConfig(iterations=iterations),
    )
    Workspace.create(str(folder), config)
    (folder / "script.json").write_text(json.dumps({f"iteration-{k}": macro for k, macro in enumerate(accuracies, 1)}))
    first = LoopState(
        outcomes=(Outcome(stage="base", adapter="", macro=0.1), Outcome(stage="sft", adapter="sft/adapter", macro=0.5))
    )
    compiler.Compiler().compile(loop_of_three, str(folder / "loop.yaml"))
    output = run_pipeline(
        folder / "loop.yaml",
        {"workspace": str(folder), "state": first.model_dump_json()},
        folder,
        PlainConsole(quiet=True),
    )
    assert (folder / "after.json").read_text() == output, "what follows the loop reads its final state"
    ran = folder / "ran.txt"
    return LoopState.model_validate_json(output), ran.read_text().splitlines() if ran.exists() else []


@pytest.mark.parametrize(
    ("iterations", "accuracies", "ran", "best"),
    [
        (0, [0.9, 0.9, 0.9], 0, "sft/adapter"),
        (1, [0.6, 0.9, 0.9], 1, "iteration-1/dpo/adapter"),
        (3, [0.6, 0.7, 0.8], 3, "iteration-3/dpo/adapter"),
        (3, [0.6, 0.55, 0.9], 2, "iteration-1/dpo/adapter"),
        (3, [0.4, 0.9, 0.9], 1, "sft/adapter"),
    ],
    ids=["none wanted", "one wanted", "three wanted", "stops after a loss", "stops at once"],
)
def test_the_loop_runs_what_is_wanted_and_names_the_best_adapter(
    tmp_path: Path, iterations: int, accuracies: list[float], ran: int, best: str
) -> None:
    state, steps = run_loop(tmp_path, iterations, accuracies)
    starts = ["sft/adapter", "iteration-1/dpo/adapter", "iteration-2/dpo/adapter"]
    assert steps == [f"iteration-{k} from {starts[k - 1]}" for k in range(1, ran + 1)]
    assert [outcome.stage for outcome in state.outcomes] == [
        "base",
        "sft",
        *(f"iteration-{k}" for k in range(1, ran + 1)),
    ]
    assert state.best.adapter == best
