"""One iteration of the loop, and the loop itself: KFP has no recursion, so a fixed number of iterations is laid out and each decides whether it runs."""

from collections.abc import Callable
from typing import Any

from kfp import dsl

from attrloop.components.dpo.component import dpo
from attrloop.components.evaluate.component import evaluate
from attrloop.components.loop_state.component import keep, latest_adapter, should_run
from attrloop.components.mine_pairs.component import mine_pairs
from attrloop.components.sample_chains.component import sample_chains


def uncached(*tasks: Any) -> None:
    """Switches KFP's cache off: it cannot see a workspace's content, while every component finds by itself what is done already."""
    for task in tasks:
        task.set_caching_options(False)


def demanding(gpu_type: Any, gpu_count: Any, retries: int, *tasks: Any) -> None:
    """Asks for accelerators (the local runner takes what the machine has) and for new attempts after a pre-emption."""
    for task in tasks:
        task.set_accelerator_type(gpu_type).set_accelerator_limit(gpu_count)
        if retries:
            task.set_retry(retries, "60s", 2, "1800s")


def build_iteration(retries: int = 0) -> Any:
    """The pipeline of one iteration; `retries` are new attempts for each of its demanding steps."""

    @dsl.pipeline(name="iteration")
    def iteration(workspace: str, stage: str, state: str, gpu_type: str, gpu_count: str) -> str:
        """Samples chains, mines pairs, trains on them with DPO, and evaluates on validation.

        Args:
            workspace: URI of the run's workspace.
            stage: Name of the iteration, `iteration-1`, `iteration-2`, ...
            state: The loop's state (JSON) before.
            gpu_type: Kubernetes resource name of the accelerator.
            gpu_count: How many of them sampling, training and evaluation get.

        Returns:
            Output: The loop's state (JSON) after.
        """
        previous = latest_adapter(state=state)
        chains = sample_chains(workspace=workspace, stage=stage, adapter=previous.output)
        pairs = mine_pairs(workspace=workspace, stage=stage).after(chains)
        trained = dpo(workspace=workspace, stage=stage, adapter=previous.output).after(pairs)
        evaluated = evaluate(workspace=workspace, stage=stage, adapter=trained.output, state=state)
        uncached(previous, chains, pairs, trained, evaluated)
        demanding(gpu_type, gpu_count, retries, chains, trained, evaluated)
        return evaluated.outputs["Output"]

    return iteration


def unroll(workspace: Any, state: Any, max_iterations: int, body: Callable[..., Any], **inputs: Any) -> Any:
    """Lays out up to `max_iterations` iterations; those not wanted, or after an early stop, are skipped.

    Only the state (a string) leaves an iteration: nothing but `OneOf` may read from inside a condition, and the state holds all there is to know.

    Args:
        workspace: URI of the run's workspace, whose config says how many iterations are wanted.
        state: the loop's state (JSON) before the first iteration.
        max_iterations: how many the compiled pipeline has room for.
        body: a pipeline with the inputs `workspace`, `stage`, `state` and `inputs` that returns the state after it.
        inputs: handed to every iteration.

    Returns:
        the state after the last iteration that ran.
    """
    for k in range(1, max_iterations + 1):
        wanted = should_run(workspace=workspace, k=k, state=state)
        with dsl.If(wanted.output == True, name=f"iteration-{k}"):  # noqa: E712 - KFP records the comparison
            after = body(workspace=workspace, stage=f"iteration-{k}", state=state, **inputs)
        with dsl.Else(name=f"skip-{k}"):
            same = keep(state=state)
        uncached(wanted, after, same)
        state = dsl.OneOf(after.output, same.output)
    return state
