"""Checkpointed gradients cost time and save memory; what is learnt stays the same."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from attrloop.components.dpo.train import train
from attrloop.components.run.workspace import Workspace
from attrloop.components.sft.train import ADAPTER
from tests.small import change_config, some_pairs, write_pairs
from tests.tiny import ARCHITECTURES


@pytest.mark.slow
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_the_adapter_is_the_same_with_checkpointed_gradients(copy_of: Callable[[str], Path], architecture: str) -> None:
    workspace = copy_of(architecture)
    start = load_file(workspace / ADAPTER / "adapter_model.safetensors")
    adapters = []
    for checkpointed in (False, True):
        change_config(workspace, dpo={"epochs": 1, "gradient_checkpointing": checkpointed})
        ws = Workspace.open(str(workspace))
        write_pairs(ws, some_pairs(ws))
        path = train(ws.store.root, "iteration-1", ADAPTER)
        adapters.append(load_file(workspace / path / "adapter_model.safetensors"))
    moved = max((adapters[0][name] - start[name]).abs().max().item() for name in start)
    apart = max((adapters[0][name] - adapters[1][name]).abs().max().item() for name in start)
    assert moved > 1e-3
    assert apart < moved / 20
    assert all(torch.isfinite(weight).all() for weight in adapters[1].values())
