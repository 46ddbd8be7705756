"""Reads the test split once, after all choices were made on validation."""

import logging

from attrloop.components.evaluate.evaluate import evaluate
from attrloop.components.gold.left_out import judged_by, no_gold
from attrloop.components.promote.challenge import evaluate_champion
from attrloop.components.results.kubeflow import ConfusionSink, MetricsSink, show
from attrloop.components.run import layout
from attrloop.components.run.reporting import figure, reports
from attrloop.components.run.state import LoopState
from attrloop.components.run.workspace import Workspace

log = logging.getLogger(__name__)


@reports("evaluate-test")
def evaluate_all(workspace: str, state: str, metrics: MetricsSink, confusion: ConfusionSink) -> None:
    """Evaluates every stage of the loop on test, and the champion that the best one is compared with.

    Gold that an ancestor has learnt from is left out. If none remains, nothing is evaluated: the run ends without a
    judgement, and what it made is registered all the same.

    Args:
        workspace: URI of the run's workspace; writes `evaluate/test/<stage>/`.
        state: the loop's final state (JSON).
        metrics: where the best stage's accuracies and rates are shown.
        confusion: where the confusion matrix of its weakest attribute is shown.

    Raises:
        InputError: an adapter that is not finished, an unreadable image.
    """
    loop, ws = LoopState.model_validate_json(state), Workspace.open(workspace)
    ws.store.write(layout.STATE, loop.model_dump_json(indent=1).encode())
    if not judged_by(ws, "test"):
        ws.store.remove(layout.evaluation("test"))  # it was of other gold
        log.warning("test is not read, and nothing can be promoted: %s. %s", *no_gold(ws, "test"))
        return
    found = evaluate(workspace, {outcome.stage: outcome.adapter for outcome in loop.outcomes}, "test")
    figure("macro accuracy", found[loop.best.stage].macro_accuracy)
    show(found[loop.best.stage], metrics, confusion)
    evaluate_champion(workspace, state)
