"""Reads the test split once, after all choices were made on validation."""

from attrloop.components.evaluate.evaluate import evaluate
from attrloop.components.promote.challenge import evaluate_champion
from attrloop.components.results.kubeflow import ConfusionSink, MetricsSink, show
from attrloop.components.run import layout
from attrloop.components.run.reporting import figure, reports
from attrloop.components.run.state import LoopState
from attrloop.components.storage.opening import open_store


@reports("evaluate-test")
def evaluate_all(workspace: str, state: str, metrics: MetricsSink, confusion: ConfusionSink) -> None:
    """Evaluates every stage of the loop on test, and the champion that the best one is compared with.

    Args:
        workspace: URI of the run's workspace; writes `evaluate/test/<stage>/`.
        state: the loop's final state (JSON).
        metrics: where the best stage's accuracies and rates are shown.
        confusion: where the confusion matrix of its weakest attribute is shown.

    Raises:
        InputError: no gold labels on test, an adapter that is not finished, an unreadable image.
    """
    loop = LoopState.model_validate_json(state)
    found = evaluate(workspace, {outcome.stage: outcome.adapter for outcome in loop.outcomes}, "test")
    figure("macro accuracy", found[loop.best.stage].macro_accuracy)
    open_store(workspace).write(layout.STATE, loop.model_dump_json(indent=1).encode())
    show(found[loop.best.stage], metrics, confusion)
    evaluate_champion(workspace, state)
