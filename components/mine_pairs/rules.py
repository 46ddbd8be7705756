"""What each arm of the experiment keeps, as one flat set of rules, so that no other module asks which arm it is in."""

from dataclasses import dataclass
from typing import Literal

from attrloop.components.run.config import MineConfig


@dataclass(frozen=True)
class Rules:
    """How samples become training rows.

    Attributes:
        pairs: make preference pairs.
        anchors: samples that become rows with the NLL term only: none, the unanimous ones, or all that pass the threshold.
        labels: what labelled training listings give on each view: nothing, their completion as an anchor, or against a wrong chain where one is.
        capped: hold anchors to their cap.
        gate: leave out the attributes on which the consensus is too often wrong.
        balance: most weight of 'A over B' per weight of 'B over A'; 0 for no balance and no cap on pairs against off-list answers.
        contrast: choose rejected chains for contrast (strongest listed rival, most misleading view) and weight pairs by their margin;
            otherwise any dissenting chain, with weight 1.
        calibrated: weigh votes by the model's habits on labelled listings (see support.py).
        truth: prefer the true answer, read from a file, in place of the consensus.
    """

    pairs: bool = True
    anchors: Literal["none", "unanimous", "all"] = "none"
    labels: Literal["none", "pairs", "anchors"] = "none"
    capped: bool = False
    gate: bool = False
    balance: float = 0.0
    contrast: bool = False
    calibrated: bool = False
    truth: bool = False


def rules_of(config: MineConfig) -> Rules:
    """The rules of the config's arm.

    `consensus` is the method. `plain` is self-consistency DPO with a threshold and nothing else. `self_training` trains on the answers of
    the same gated consensus without any contrast. `true_labels` is the ceiling: truth in place of the consensus.
    """
    unanimous: Literal["unanimous", "none"] = "unanimous" if config.anchors else "none"
    match config.arm:
        case "plain":
            return Rules()
        case "self_training":
            return Rules(
                pairs=False,
                anchors="all",
                labels="anchors" if config.labelled else "none",
                gate=True,
                calibrated=config.calibrate,
            )
        case "true_labels":
            return Rules(anchors=unanimous, labels="pairs" if config.labelled else "none", capped=True, truth=True)
        case "consensus":
            labels: Literal["pairs", "none"] = "pairs" if config.labelled else "none"
            return Rules(
                anchors=unanimous,
                labels=labels,
                capped=True,
                gate=True,
                balance=config.balance,
                contrast=True,
                calibrated=config.calibrate,
            )
