"""Continuations of a shared prompt have the log-probabilities, and the gradients, that each has by itself."""

import torch

from attrloop.components.model.logprobs import completion_logprobs, continuation_logprobs
from attrloop.components.model.vlm import Vlm
from tests.components.model.conftest import adapt, prompts_for

# (prompt, completion): the prompts come in another order than they are encoded, one of them once, one three times.
CONTINUATIONS = (
    (1, "I see upright bars. Answer: striped"),
    (0, "Answer: red"),
    (1, "hm"),
    (2, "I see red Answer: green"),
    (1, "Answer: red"),
)


def both(vlm: Vlm) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probabilities with shared prompts, those with a prompt for each, and which of them are tokens."""
    asked, texts = prompts_for(vlm), [text for _, text in CONTINUATIONS]
    owners = torch.tensor([owner for owner, _ in CONTINUATIONS])
    completions, mask = vlm.completions(texts)
    shared = continuation_logprobs(vlm.model, vlm.batch(vlm.encode(asked)), completions, mask, owners)
    alone = completion_logprobs(vlm.model, vlm.batch(vlm.encode([asked[owner] for owner in owners]), texts))
    return shared, alone, mask


def test_log_probabilities_are_those_of_the_whole_sequence(vlm: Vlm) -> None:
    adapt(vlm)
    with torch.no_grad():
        shared, alone, mask = both(vlm)
    torch.testing.assert_close(shared, alone, atol=1e-4, rtol=0)
    assert (shared[mask] < 0).all() and not shared[~mask].any()


def test_gradients_are_those_of_the_whole_sequence(vlm: Vlm) -> None:
    adapt(vlm)
    trained = [weight for weight in vlm.model.parameters() if weight.requires_grad]
    weights = torch.linspace(-1, 2, len(CONTINUATIONS))  # as in DPO, some continuations are pushed down
    shared, alone, _ = both(vlm)
    found, wanted = (torch.autograd.grad((weights * logprobs.sum(1)).sum(), trained) for logprobs in (shared, alone))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
    assert max(gradient.abs().max().item() for gradient in found) > 0.01, (
        "gradients that are all but zero would prove nothing"
    )


def test_a_completion_on_the_wrong_prompt_would_be_noticed(vlm: Vlm) -> None:
    adapt(vlm)
    rows, (completions, mask) = vlm.encode(prompts_for(vlm)), vlm.completions(["Answer: red"] * 3)
    with torch.no_grad():
        values = continuation_logprobs(vlm.model, vlm.batch(rows), completions, mask, torch.tensor([0, 1, 2])).sum(1)
    assert values.unique().numel() == 3
