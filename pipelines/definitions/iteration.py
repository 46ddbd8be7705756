"""One iteration, the loop of iterations, and how a loop ends.

KFP has no recursion: a pipeline holds a fixed number of iterations, and each decides whether it runs.
"""

from collections.abc import Callable
from typing import Any

from kfp import dsl

from attrloop.components.dpo.component import dpo
from attrloop.components.evaluate.component import evaluate
from attrloop.components.evaluate_test.component import evaluate_test
from attrloop.components.loop_state.component import keep, latest_adapter, should_run
from attrloop.components.mine_pairs.component import mine_pairs
from attrloop.components.promote.component import promote
from attrloop.components.register_adapter.component import register_adapter
from attrloop.components.report.component import report
from attrloop.components.sample_chains.component import sample_chains, share_out
from attrloop.pipelines.definitions.cluster import Cluster
from attrloop.pipelines.definitions.resources import Resources, with_resources


def uncached(*tasks: Any) -> None:
    """Switches KFP's cache off for tasks.

    KFP cannot see what a workspace holds; each component finds by itself what is done already.
    """
    for task in tasks:
        task.set_caching_options(False)


def build_sampling(cluster: Cluster) -> Any:
    """The pipeline that samples chains in several pods at once; only a pod that fails is tried again.

    It is a separate pipeline because a `ParallelFor` may read only its own inputs: the local runner replaces the output
    of another step by the loop's item.
    """

    @dsl.pipeline(name="sampling")
    @with_resources(cluster, "sample")
    def sampling(workspace: str, stage: str, adapter: str, shares: list, resources: Resources) -> None:
        """Samples the chains of an iteration.

        Args:
            workspace: URI of the run's workspace.
            stage: Name of the iteration, `iteration-1`, `iteration-2`, ...
            adapter: Path in the workspace of the adapter that the chains are sampled from.
            shares: Each worker's share of the work: `1/2`, `2/2`.
            resources: What the steps ask of the cluster.
        """
        with dsl.ParallelFor(shares, name="workers", parallelism=cluster.at_once) as share:
            chains = sample_chains(workspace=workspace, stage=stage, adapter=adapter, share=share)
            uncached(chains)
            resources.gpu("sample", chains)

    return sampling


def build_iteration(cluster: Cluster) -> Any:
    """The pipeline of one iteration, as a step of a loop (see `unroll`)."""
    sampling = build_sampling(cluster)

    @dsl.pipeline(name="iteration")
    @with_resources(cluster, "sample", "dpo", "evaluate")
    def iteration(workspace: str, stage: str, state: str, gpu_sample_workers: int, resources: Resources) -> str:
        """Samples chains, mines pairs, trains on them with DPO, and evaluates on validation.

        Args:
            workspace: URI of the run's workspace.
            stage: Name of the iteration, `iteration-1`, `iteration-2`, ...
            state: The loop's state (JSON) before.
            gpu_sample_workers: Pods that sample chains at once.
            resources: What the steps ask of the cluster.

        Returns:
            Output: The loop's state (JSON) after.
        """
        previous = latest_adapter(state=state)
        divided = share_out(workspace=workspace, stage=stage, adapter=previous.output, workers=gpu_sample_workers)
        chains = sampling(
            workspace=workspace,
            stage=stage,
            adapter=previous.output,
            shares=divided.output,
            **resources.handed_on(sampling),
        )
        pairs = mine_pairs(workspace=workspace, stage=stage).after(chains)
        trained = dpo(workspace=workspace, stage=stage, adapter=previous.output).after(pairs)
        evaluated = evaluate(workspace=workspace, stage=stage, adapter=trained.output, state=state)
        uncached(previous, divided, chains, pairs, trained, evaluated)
        resources.cpu(previous, divided, pairs)
        resources.gpu("dpo", trained)
        resources.gpu("evaluate", evaluated)
        return evaluated.outputs["Output"]

    return iteration


def unroll(
    workspace: Any, state: Any, max_iterations: int, body: Callable[..., Any], resources: Resources, **inputs: Any
) -> Any:
    """Adds `max_iterations` iterations to a pipeline; a run skips those that it does not want or need.

    Only the state (a string) leaves an iteration, because only `OneOf` may read from inside a condition.

    Args:
        workspace: URI of the run's workspace, whose config says how many iterations are wanted.
        state: the loop's state (JSON) before the first iteration.
        max_iterations: how many the compiled pipeline has room for.
        body: the pipeline of one iteration; its inputs are `workspace`, `stage`, `state` and `inputs`, its output is
            the state after the iteration.
        resources: of the pipeline.
        inputs: more inputs of every iteration.

    Returns:
        the state after the last iteration that ran.
    """
    for k in range(1, max_iterations + 1):
        wanted = should_run(workspace=workspace, k=k, state=state)
        with dsl.If(wanted.output == True, name=f"iteration-{k}"):  # noqa: E712 - KFP records the comparison
            after = body(
                workspace=workspace, stage=f"iteration-{k}", state=state, **inputs, **resources.handed_on(body)
            )
        with dsl.Else(name=f"skip-{k}"):
            same = keep(state=state)
        uncached(wanted, after, same)
        resources.cpu(wanted, same)
        state = dsl.OneOf(after.output, same.output)
    return state


def conclude(workspace: Any, state: Any, resources: Resources) -> None:
    """Evaluates on the test split, registers the best adapter, promotes it if the gate allows it, writes the report.

    Args:
        workspace: URI of the run's workspace.
        state: the loop's final state (JSON).
        resources: of the pipeline.
    """
    tested = evaluate_test(workspace=workspace, state=state)
    registered = register_adapter(workspace=workspace, state=state).after(tested)
    promoted = promote(workspace=workspace, state=state).after(registered)
    written = report(workspace=workspace, state=state).after(promoted)
    uncached(tested, registered, promoted, written)
    resources.gpu("evaluate", tested, tracking=True)  # the champion is decoded too
    resources.cpu(registered, promoted, written, tracking=True)
