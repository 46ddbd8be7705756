"""Decodes several chains per prompt. The prompt is computed once, its chains share the cache, and each draws by itself.

A token is drawn by inverting the distribution at a uniform number that belongs to (item, chain, position). The draw
depends neither on the items decoded beside it nor on their order: a shard or a resumed run gives the same chains.
"""

import hashlib
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from attrloop.components.engines.engine import Decoding
from attrloop.components.model.prefix import prefill


def seed_of(key: str) -> int:
    """The seed that belongs to an item, in [0, 2^63)."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def uniforms(key: str, chains: int, length: int) -> torch.Tensor:
    """The random numbers of an item's chains, float32 [chains, length] in [0, 1), decided by `key` alone."""
    return torch.rand(chains, length, generator=torch.Generator().manual_seed(seed_of(key)))


class Choose(LogitsProcessor):
    """Chooses each row's next token, greedily or at its uniform number, and keeps its log-probability.

    Attributes:
        logprobs: of the chosen tokens at temperature 1, a tensor [rows] for each step.
    """

    def __init__(self, numbers: torch.Tensor | None, temperature: float, top_p: float) -> None:
        self.numbers, self.temperature, self.top_p = numbers, temperature, top_p
        self.logprobs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores that leave one token possible: 0 for it, minus infinity for the others, [rows, vocabulary]."""
        scores = scores.float()
        if self.numbers is None:
            token = scores.argmax(-1, keepdim=True)
        else:
            token = self._draw((scores / self.temperature).softmax(-1), self.numbers[:, len(self.logprobs), None])
        self.logprobs.append((scores.gather(-1, token) - scores.logsumexp(-1, keepdim=True)).squeeze(-1))
        return torch.full_like(scores, -torch.inf).scatter_(-1, token, 0.0)

    def _draw(self, probabilities: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        if self.top_p < 1:
            ordered, order = probabilities.sort(-1, descending=True)
            keep = ordered.cumsum(-1) - ordered < self.top_p
            probabilities = torch.zeros_like(probabilities).scatter_(-1, order, ordered * keep)
        ladder = probabilities.cumsum(-1)
        return torch.searchsorted(ladder, numbers * ladder[:, -1:], right=True).clamp_max_(probabilities.shape[-1] - 1)


@torch.no_grad()
def decode(
    model: Any, inputs: dict[str, Any], decoding: Decoding, numbers: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decodes `decoding.chains` continuations of each prompt.

    Args:
        model: the model, with or without an adapter.
        inputs: a left-padded batch as `Vlm.batch` makes it: `input_ids`, `attention_mask` [batch, length], image
            tensors.
        decoding: how to decode; the batch is decoded at once, whatever `batch_size` says.
        numbers: uniform numbers [batch * chains, max_new_tokens]; None for greedy decoding.

    Returns:
        token ids and their log-probabilities, both [batch * chains, steps].
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    owners = torch.arange(len(ids), device=ids.device).repeat_interleave(decoding.chains)
    cache, _ = prefill(model, inputs, owners)
    choose = Choose(None if numbers is None else numbers.to(ids.device), decoding.temperature, decoding.top_p)
    sequences = model.generate(
        input_ids=ids[owners],
        attention_mask=mask[owners],
        past_key_values=cache,
        logits_processor=LogitsProcessorList([choose]),
        do_sample=False,
        max_new_tokens=decoding.max_new_tokens,
    )
    return sequences[:, ids.shape[1] :].cpu(), torch.stack(choose.logprobs, 1).cpu()
