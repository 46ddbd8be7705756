"""KFP contract of the report."""

from kfp import dsl

from attrloop.components.base_images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def report(workspace: str, state: str, page: dsl.Output[dsl.HTML]) -> None:
    """Writes the run's report, `report.html`, and its summary for scripts, `summary.json`.

    Args:
        workspace: URI of the run's workspace.
        state: The loop's final state (JSON).

    Returns:
        page: The self-contained report.
    """
    from attrloop.components.report.report import write_report

    write_report(workspace, state, page.path)
