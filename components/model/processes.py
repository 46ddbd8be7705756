"""Training on all GPUs of a node: one process each, which share every batch (data parallel)."""

import os
import signal
from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from attrloop.components.errors import AttrloopError

STOPPED = 128 + signal.SIGTERM  # exit status of a process that ended because it was asked to; Kubeflow tries again
_GRACE = 60  # seconds that processes have to save a checkpoint; what is shorter, the pod's grace period or this, holds


def processes_for(batch_size: int) -> int:
    """How many processes train: one for each GPU, as far as a batch can be shared evenly; one where there is no GPU."""
    return next(count for count in range(max(1, torch.cuda.device_count()), 0, -1) if batch_size % count == 0)


def spread(work: Callable[..., None], processes: int, *arguments: Any) -> None:
    """Calls `work(*arguments)`, in several processes when more than one is wanted.

    Args:
        work: a function of a module; what it makes it must write to disk, in the main process alone.
        processes: how many; on GPUs each sees its own as the only one.
        arguments: are pickled.

    Raises:
        AttrloopError: one of several processes failed; says why.
        SystemExit: with `STOPPED`, when SIGTERM came and every process had time to end.
    """
    if processes == 1:
        work(*arguments)
        return
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="localhost", max_restarts=0,
        virtual_local_rank=torch.cuda.is_available(), shutdown_timeout=_GRACE,
    )  # fmt: skip
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    try:
        elastic_launch(config, work)(*arguments)
    except SignalException as error:
        raise SystemExit(STOPPED) from error
    except ChildFailedError as error:
        failure = error.get_first_failure()[1]
        if failure.exitcode == STOPPED:
            raise SystemExit(STOPPED) from error
        raise AttrloopError(failure.message) from error
