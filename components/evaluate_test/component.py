"""KFP contract of the test split."""

from kfp import dsl

from attrloop.components.base_images import TRAINER


@dsl.component(base_image=TRAINER, install_kfp_package=False)
def evaluate_test(
    workspace: str, state: str, metrics: dsl.Output[dsl.Metrics], confusion: dsl.Output[dsl.ClassificationMetrics]
) -> None:
    """Reads the test split once, for all stages and the champion, after every choice was made on validation.

    Writes `evaluate/test/<stage>/predictions.parquet` and `metrics.json`.

    Args:
        workspace: URI of the run's workspace.
        state: The loop's final state (JSON).

    Returns:
        metrics: The best stage's accuracy on test, macro and per vertical, in [0, 1], and the rates beside it.
        confusion: Confusion matrix of the best stage's weakest attribute.
    """
    from attrloop.components.evaluate_test.evaluate_all import evaluate_all

    evaluate_all(workspace, state, metrics, confusion)
