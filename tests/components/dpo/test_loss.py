"""Every loss is TRL's of the same name, and what its paper says."""

import math
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch

from attrloop.components.dpo.loss import LOSSES, Changes
from attrloop.components.run.config import DpoConfig

BETA, FLIPPED = 0.3, 0.2
# Log-probabilities of four pairs' chains, (chosen, rejected), in nats; and how many tokens the chains have.
NOW = torch.tensor([[-4.0, -9.0], [-20.0, -3.0], [-0.5, -0.5], [-60.0, -80.0]], dtype=torch.float64)
REFERENCE = torch.tensor([[-6.0, -7.0], [-15.0, -8.0], [-0.5, -0.5], [-90.0, -20.0]], dtype=torch.float64)
TOKENS = torch.tensor([[3, 5], [9, 2], [1, 1], [12, 12]])


def changes() -> Changes:
    difference = NOW - REFERENCE
    return Changes(difference[:, 0], difference[:, 1], TOKENS[:, 0], TOKENS[:, 1])


def config_of(name: str) -> DpoConfig:
    return DpoConfig.model_validate(
        {"loss": name, "beta": BETA, "label_smoothing": FLIPPED if name == "robust" else 0.0}
    )


def of_trl(name: str, row: int) -> float:
    """The loss of one pair by TRL's own code, on a model that gives each chain the log-probability of the table."""
    import attrloop.components.model  # noqa: F401, I001 - makes torchvision importable
    from trl import DPOTrainer

    longest = int(TOKENS[row].max())
    mask = torch.zeros(2, longest + 1, dtype=torch.long)  # one token of a prompt, then the chain
    logprobs = torch.zeros(2, longest, dtype=torch.float64)
    for k, (tokens, total) in enumerate(zip(TOKENS[row].tolist(), NOW[row].tolist(), strict=True)):
        mask[k, 1 : tokens + 1] = 1
        logprobs[k, :tokens] = total / tokens
    zeros = torch.zeros_like(logprobs)
    outputs = SimpleNamespace(log_probs=logprobs, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x),
        loss_types=[name],
        loss_weights=[1.0],
        beta=BETA,
        label_smoothing=FLIPPED,
        f_divergence_type="reverse_kl",
        precompute_ref_logps=True,
        aux_loss_enabled=False,
        ld_alpha=None,
        use_weighting=False,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    inputs = {
        "input_ids": torch.zeros_like(mask),
        "attention_mask": torch.ones_like(mask),
        "completion_mask": mask,
        "ref_chosen_logps": REFERENCE[row, :1],
        "ref_rejected_logps": REFERENCE[row, 1:],
    }
    loss: Any = DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, False)  # type: ignore[arg-type]
    return float(loss)


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_is_trls_of_the_same_name(name: str) -> None:
    made = LOSSES[name](changes(), config_of(name))
    assert made.shape == (len(NOW),)
    assert made.tolist() == pytest.approx([of_trl(name, row) for row in range(len(NOW))], rel=1e-9)


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# From the papers, for a chosen and a rejected change of so many nats over so many tokens.
PAPERS: dict[str, Callable[[float, float, int, int], float]] = {
    "sigmoid": lambda c, r, _, __: -math.log(logistic(BETA * (c - r))),
    "hinge": lambda c, r, _, __: max(0.0, 1 - BETA * (c - r)),
    "ipo": lambda c, r, m, n: (c / m - r / n - 1 / (2 * BETA)) ** 2,
    "robust": lambda c, r, _, __: (
        ((FLIPPED - 1) * math.log(logistic(BETA * (c - r))) + FLIPPED * math.log(logistic(BETA * (r - c))))
        / (1 - 2 * FLIPPED)
    ),
    "apo_zero": lambda c, r, _, __: logistic(-BETA * c) + logistic(BETA * r),
    "apo_down": lambda c, r, _, __: logistic(BETA * c) + logistic(-BETA * (c - r)),
}


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_is_what_its_paper_says(name: str) -> None:
    rows = zip((NOW - REFERENCE).tolist(), TOKENS.tolist(), strict=True)
    wanted = [PAPERS[name](chosen, rejected, m, n) for (chosen, rejected), (m, n) in rows]
    assert LOSSES[name](changes(), config_of(name)).tolist() == pytest.approx(wanted, rel=1e-9)


def test_without_flipped_pairs_robust_is_sigmoid() -> None:
    assert torch.equal(LOSSES["robust"](changes(), DpoConfig(loss="robust")), LOSSES["sigmoid"](changes(), DpoConfig()))


def test_the_config_takes_the_names_in_the_table_and_smoothing_where_it_does_something() -> None:
    assert set(get_args(DpoConfig.model_fields["loss"].annotation)) == set(LOSSES)
    with pytest.raises(ValueError, match=r"label_smoothing does nothing with loss ipo: .* set loss: robust"):
        DpoConfig(loss="ipo", label_smoothing=0.1)
    with pytest.raises(ValueError, match=r"less than 0\.5"):
        DpoConfig(loss="robust", label_smoothing=0.5)
