"""Log-probabilities of completions, as training needs them."""

from typing import Any

import torch

from attrloop.components.model.prefix import backbone, prefill


def completion_logprobs(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """Log-probabilities of a batch's completion tokens. Only their positions pass the LM head.

    Args:
        model: the model, with or without an adapter.
        inputs: a batch with completions, as `Vlm.batch` makes it.

    Returns:
        float32 [rows, longest completion], 0 where padded.
    """
    mask = inputs["completion_mask"]
    length = mask.shape[1]
    forward = {name: value for name, value in inputs.items() if name != "completion_mask"}
    logits = model(**forward, use_cache=False, logits_to_keep=length + 1).logits[:, :-1].float()
    targets = inputs["input_ids"][:, -length:]
    return (logits.gather(-1, targets[..., None]).squeeze(-1) - logits.logsumexp(-1)) * mask


def continuation_logprobs(
    model: Any, inputs: dict[str, Any], completions: torch.Tensor, mask: torch.Tensor, owners: torch.Tensor
) -> torch.Tensor:
    """Log-probabilities of the tokens of completions, with gradients. Each prompt is computed once for all of its own.

    Args:
        model: the model, with or without an adapter.
        inputs: prompts, left-padded.
        completions: token ids [rows, longest], right-padded.
        mask: bool [rows, longest], true on tokens.
        owners: the prompt of each row, int64 [rows].

    Returns:
        float32 [rows, longest], 0 where padded.
    """
    cache, offset = prefill(model, inputs, owners)
    ids = torch.cat([inputs["input_ids"][owners, -1:], completions[:, :-1]], 1)
    attention = torch.cat([inputs["attention_mask"][owners], mask[:, :-1].long()], 1)
    positions = (attention.cumsum(-1) - 1)[:, -ids.shape[1] :] + offset
    if hasattr(backbone(model), "rope_deltas"):
        positions = positions.expand(3, -1, -1)
    logits = model(
        input_ids=ids, attention_mask=attention, position_ids=positions, past_key_values=cache, use_cache=True
    ).logits.float()
    return (logits.gather(-1, completions[..., None]).squeeze(-1) - logits.logsumexp(-1)) * mask
