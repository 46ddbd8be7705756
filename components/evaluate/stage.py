"""The step that evaluates a new stage: the loop's state before and after, and what Kubeflow shows of it."""

from attrloop.components.evaluate.evaluate import evaluate
from attrloop.components.results.kubeflow import ConfusionSink, MetricsSink, show
from attrloop.components.run import layout
from attrloop.components.run.reporting import figure, reports
from attrloop.components.run.state import LoopState, Outcome
from attrloop.components.run.workspace import Workspace


@reports("evaluate")
def evaluate_stage(
    workspace: str, stage: str, adapter: str, state: str, *, metrics: MetricsSink, confusion: ConfusionSink
) -> str:
    """Evaluates a new stage on validation, and the base model with the first one.

    Args:
        workspace: URI of the run's workspace.
        stage: name of the stage.
        adapter: path of its adapter in the workspace.
        state: the loop's state (JSON) before the stage; "" for the first one.
        metrics: where the stage's accuracies and rates are shown.
        confusion: where the confusion matrix of its weakest attribute is shown.

    Returns:
        The loop's state (JSON) with the new stage; it says whether the loop stops.
    """
    ws = Workspace.open(workspace)
    stages = {stage: adapter} if state else {"base": "", stage: adapter}
    found = evaluate(workspace, stages, "validation")
    figure("macro accuracy", found[stage].macro_accuracy)
    outcomes = [Outcome(stage=name, adapter=path, macro=found[name].macro_accuracy) for name, path in stages.items()]
    before = LoopState.model_validate_json(state) if state else None
    after = before.after(outcomes[0], ws.config.loop.min_gain) if before else LoopState(outcomes=tuple(outcomes))
    ws.store.write(layout.STATE, after.model_dump_json(indent=1).encode())
    show(found[stage], metrics, confusion)
    return after.model_dump_json()
