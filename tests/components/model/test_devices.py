"""What runs on an accelerator mixes in nothing of the CPU. Fake tensors show it: they have a device but no content."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from transformers.modeling_outputs import BaseModelOutputWithPooling

from attrloop.components.dpo.loss import LOSSES
from attrloop.components.dpo.trainer import PreferenceLoss
from attrloop.components.model.decoding import Choose, uniforms
from attrloop.components.model.logprobs import completion_logprobs
from attrloop.components.model.prefix import backbone, prefill
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.config import DpoConfig
from attrloop.components.sft.trainer import CompletionLoss
from tests.components.model.conftest import PROMPTS

ELSEWHERE = "meta"  # stands for a GPU: the only other device that is there without one
TEXTS = ["Answer: red", "I see bars. Answer: green"]


def moved(mode: FakeTensorMode, value: Any) -> Any:
    """A batch whose tensors are on the other device."""
    if isinstance(value, torch.Tensor):
        return mode.from_tensor(value).to(ELSEWHERE)
    if isinstance(value, BaseModelOutputWithPooling):
        return BaseModelOutputWithPooling(pooler_output=moved(mode, value.pooler_output))
    if isinstance(value, dict):
        return {name: moved(mode, inner) for name, inner in value.items()}
    return [moved(mode, inner) for inner in value]


def move(mode: FakeTensorMode, vlm: Vlm) -> None:
    """Puts the model there, without what it derives from the content of prompts (rotary positions): there is none."""
    for module in vlm.model.modules():
        for name, weight in module.named_parameters(recurse=False):
            module._parameters[name] = torch.nn.Parameter(moved(mode, weight.detach()), weight.requires_grad)
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = moved(mode, buffer)
    if hasattr(core := backbone(vlm.model), "rope_deltas"):
        core.get_rope_index = lambda ids, *_, **__: (ids.new_zeros(3, *ids.shape), ids.new_zeros(len(ids), 1))


@pytest.fixture
def elsewhere(vlm: Vlm) -> Callable[..., Any]:
    """Calls `work(model, *batches)` with all of it on the other device; from the first call on the model is there."""
    numbers_unknown = ShapeEnv(allow_scalar_outputs=True, allow_dynamic_output_shape_ops=True)
    mode = FakeTensorMode(allow_non_fake_inputs=True, shape_env=numbers_unknown, static_shapes=True)

    def run(work: Callable[..., Any], *batches: Any) -> Any:
        with mode:
            if vlm.base.device.type != ELSEWHERE:
                move(mode, vlm)
            return work(vlm.model, *moved(mode, batches))

    return run


def sft_loss(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    loss = CompletionLoss(noise=0.5).measure(model, batch, lambda value, _: value).loss
    loss.backward()
    return loss


def dpo_loss(name: str, model: Any, batch: dict[str, Any]) -> torch.Tensor:
    loss = PreferenceLoss(DpoConfig.model_validate({"loss": name})).measure(model, batch, lambda value, _: value).loss
    loss.backward()
    return loss


def test_a_mixture_would_be_found(vlm: Vlm, elsewhere: Callable[..., Any]) -> None:
    rows = vlm.batch(vlm.encode(PROMPTS[:2]), TEXTS)
    with pytest.raises(RuntimeError, match="same device"):
        elsewhere(lambda model, batch: completion_logprobs(model, batch) * torch.ones(2, 1), rows)


@pytest.mark.slow
def test_training(vlm: Vlm, elsewhere: Callable[..., Any]) -> None:
    vlm.add_adapter(0)
    rows = vlm.batch(vlm.encode(PROMPTS[:2]), TEXTS)
    completions, mask = vlm.completions(TEXTS)
    shared = {
        "prompts": vlm.batch(vlm.encode(PROMPTS[:1])),
        "completions": completions,
        "mask": mask,
        "owners": torch.zeros(2, dtype=torch.long),
    }
    row = {"weight": torch.ones(1), "reference": torch.zeros(1, 2), "paired": torch.tensor([0])}  # by number, not bool:
    assert elsewhere(sft_loss, rows).device.type == ELSEWHERE  # of fake tensors nobody knows how many are true
    for batch in (shared, {"rows": rows, "mask": rows["completion_mask"]}):
        for name in LOSSES:
            assert elsewhere(partial(dpo_loss, name), batch | row).device.type == ELSEWHERE


def test_decoding(vlm: Vlm, elsewhere: Callable[..., Any]) -> None:
    def first_token(model: Any, inputs: dict[str, Any], numbers: torch.Tensor) -> Choose:
        owners = torch.arange(2, device=inputs["input_ids"].device).repeat_interleave(3)
        prefill(model, inputs, owners)
        choose = Choose(numbers, temperature=0.8, top_p=0.9)
        choose(inputs["input_ids"][owners], torch.zeros(6, 50, device=inputs["input_ids"].device))
        return choose

    numbers = torch.cat([uniforms(key, 3, 4) for key in "ab"])
    assert elsewhere(first_token, vlm.batch(vlm.encode(PROMPTS[:2])), numbers).logprobs[0].device.type == ELSEWHERE
