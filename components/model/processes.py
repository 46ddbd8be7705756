"""Training on all GPUs of a node: one process each, and every batch divided between them (data parallel)."""

import os
import signal
from collections.abc import Callable
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from attrloop.components.errors import AttrloopError

STOPPED = 128 + signal.SIGTERM  # exit status of a process that SIGTERM ended; Kubeflow tries again
_GRACE = 60  # seconds that processes have to save a checkpoint, unless the pod's grace period is shorter


def processes_for(batch_size: int) -> int:
    """How many processes train: one for each GPU, as far as a batch can be divided evenly; one without a GPU."""
    return next(count for count in range(max(1, torch.cuda.device_count()), 0, -1) if batch_size % count == 0)


def spread(work: Callable[..., None], processes: int, *arguments: Any) -> None:
    """Calls `work(*arguments)` in each of several processes, or right here if one is enough.

    Args:
        work: a function of a module. It returns nothing: the main process writes what it makes to disk.
        processes: how many. With GPUs, each sees only its own.
        arguments: of `work`; they are pickled.

    Raises:
        AttrloopError: one of the processes failed; says why.
        SystemExit: with `STOPPED`, when SIGTERM came and every process had time to end.
    """
    if processes == 1:
        work(*arguments)
        return
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        virtual_local_rank=torch.cuda.is_available(),
        shutdown_timeout=_GRACE,
    )
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


class Peers:
    """The processes that train together, as one of them sees them. A process that trains alone is its only peer.

    Attributes:
        main: whether this process is the one that writes.
    """

    def __init__(self, device: torch.device) -> None:
        self._state, self._device = PartialState(cpu=device.type == "cpu"), device
        self.main: bool = self._state.is_main_process

    def rows(self, count: int) -> list[int]:
        """This process's part of `count` rows."""
        return list(range(count))[self._state.process_index :: self._state.num_processes]

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes, on the CPU."""
        total: torch.Tensor = reduce(values.to(self._device), "sum")
        return total.cpu()
