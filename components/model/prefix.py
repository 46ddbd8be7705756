"""A prompt computed once for everything that continues it: sampled chains, or the chains of preference pairs."""

from typing import Any

import torch

_PER_TOKEN = ("input_ids", "attention_mask", "mm_token_type_ids")


def backbone(model: Any) -> Any:
    """The multimodal backbone within its wrappers (data parallel, PEFT, LM head). Qwen keeps a rotary offset there."""
    model = getattr(model, "module", model)
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    return core.model


def prefill(model: Any, inputs: dict[str, Any], owners: torch.Tensor) -> tuple[Any, torch.Tensor]:
    """Computes prompts, all but their last token, and gives a copy of their cache to each row that continues them.

    Args:
        model: the model, with or without an adapter.
        inputs: a left-padded batch of prompts as `Vlm.batch` makes it.
        owners: the prompt that each continuing row belongs to, int64 [rows].

    Returns:
        the cache with [rows] entries, and the offset of each row's positions from its count of tokens, int64 [rows, 1].
    """
    prefix = {name: value[:, :-1] if name in _PER_TOKEN else value for name, value in inputs.items()}
    core = backbone(model)
    if not hasattr(core, "rope_deltas"):
        prefix["position_ids"] = (prefix["attention_mask"].cumsum(-1) - 1).clamp_min(0)
    cache = model(**prefix, use_cache=True, logits_to_keep=1).past_key_values
    cache.batch_select_indices(owners)
    if getattr(core, "rope_deltas", None) is None:
        return cache, torch.zeros_like(owners)[:, None]
    core.rope_deltas = core.rope_deltas[owners]
    return cache, core.rope_deltas
