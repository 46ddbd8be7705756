"""The losses of preference optimisation by their TRL names. A new one is a function here, and an entry in `LOSSES`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

from attrloop.components.run.config import DpoConfig


@dataclass(frozen=True)
class Changes:
    """By how much the log-probabilities of the chains of some pairs differ from the reference's, in nats.

    Attributes:
        chosen: sums over the tokens of the chosen chains, log pi(y) - log pi_ref(y), float [pairs].
        rejected: the same of the rejected chains.
        chosen_tokens: lengths of the chosen chains, [pairs].
        rejected_tokens: lengths of the rejected chains, [pairs].
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor

    @property
    def margin(self) -> torch.Tensor:
        """The change of the chosen less that of the rejected, [pairs]."""
        return self.chosen - self.rejected


Loss = Callable[[Changes, DpoConfig], torch.Tensor]  # of each pair, float [pairs]


def sigmoid(changes: Changes, config: DpoConfig) -> torch.Tensor:
    """The loss of DPO. Equation 7 of arXiv 2305.18290.

    -log sigmoid(beta * margin).
    """
    return -logsigmoid(config.beta * changes.margin)


def hinge(changes: Changes, config: DpoConfig) -> torch.Tensor:
    """The hinge loss of SLiC (arXiv 2305.10425) on the margin of DPO, as in RSO (arXiv 2309.06657).

    max(0, 1 - beta * margin).
    """
    return torch.relu(1 - config.beta * changes.margin)


def ipo(changes: Changes, config: DpoConfig) -> torch.Tensor:
    """The loss of IPO, with changes per token. Equation 17 of arXiv 2310.12036.

    (margin - 1 / (2 beta))^2. The margin has an optimum, so a pair that is won is not pushed further. The paper writes
    sums over tokens; its authors used means, and so does TRL.
    """
    margin = changes.chosen / changes.chosen_tokens - changes.rejected / changes.rejected_tokens
    return (margin - 1 / (2 * config.beta)) ** 2


def robust(changes: Changes, config: DpoConfig) -> torch.Tensor:
    """Robust DPO: an estimate of the sigmoid loss as if no pair were flipped. arXiv 2403.00409.

    ((1 - e) * sigmoid(margin) - e * sigmoid(-margin)) / (1 - 2 e), where e, `dpo.label_smoothing`, is the fraction of
    pairs whose chosen chain is the worse one. May be negative. With e = 0 it is the sigmoid loss.
    """
    flipped, scaled = config.label_smoothing, config.beta * changes.margin
    return (-(1 - flipped) * logsigmoid(scaled) + flipped * logsigmoid(-scaled)) / (1 - 2 * flipped)


def apo_zero(changes: Changes, config: DpoConfig) -> torch.Tensor:
    """APO-zero: lifts the chosen chain and lowers the rejected one, each by itself. Equation 7 of arXiv 2408.06266.

    (1 - sigmoid(beta * chosen)) + sigmoid(beta * rejected): for pairs whose chosen chain is better than what the model
    says by itself.
    """
    return 1 - torch.sigmoid(config.beta * changes.chosen) + torch.sigmoid(config.beta * changes.rejected)


def apo_down(changes: Changes, config: DpoConfig) -> torch.Tensor:
    """APO-down: lowers both chains, the rejected one more. Equation 8 of arXiv 2408.06266.

    sigmoid(beta * chosen) + (1 - sigmoid(beta * margin)): for pairs whose chosen chain is worse than what the model
    says by itself.
    """
    return torch.sigmoid(config.beta * changes.chosen) + 1 - torch.sigmoid(config.beta * changes.margin)


LOSSES: dict[str, Loss] = {
    loss.__name__: loss for loss in (sigmoid, hinge, ipo, robust, apo_zero, apo_down)
}  # the names that `dpo.loss` takes
