"""The arms: how samples become training rows, as one flat set of rules each. No other module asks which arm it is in.

To add an arm, write a function that returns its `Rules`, give it a name in `ARMS`, and allow that name in
`MineConfig.arm`. A rule that no arm has yet is a new field of `Rules`, read where it matters: `votes`, `candidates`,
`gate` or `balance`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from attrloop.components.run.config import MineConfig


@dataclass(frozen=True)
class Rules:
    """How samples become training rows.

    Attributes:
        pairs: make preference pairs.
        anchors: which samples become rows with the NLL term only: none, those on which all chains agree, or all that
            pass the threshold.
        labels: what a labelled training listing gives on each view: nothing, its label as an anchor, or its label
            against a wrong chain (an anchor where no chain is wrong).
        capped: keep no more anchors than their cap.
        gate: leave out attributes whose consensus is wrong too often.
        balance: most weight of 'A over B' per weight of 'B over A'; 0 for no balance, and no cap on pairs against
            off-list answers.
        contrast: choose rejected chains for contrast (the listed rival with most support, on the most misleading view)
            and weight pairs by their margin. Otherwise take any dissenting chain, with weight 1.
        calibrated: weigh votes by the model's habits on labelled listings (see `support`).
        truth: prefer the true answer, which a file gives, to the consensus.
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


def consensus(config: MineConfig) -> Rules:
    """The method: everything that the config does not switch off."""
    return Rules(
        anchors="unanimous" if config.anchors else "none",
        labels="pairs" if config.labelled else "none",
        capped=True,
        gate=True,
        balance=config.balance,
        contrast=True,
        calibrated=config.calibrate,
    )


def plain(config: MineConfig) -> Rules:
    """Self-consistency DPO with a threshold and nothing else."""
    return Rules()


def self_training(config: MineConfig) -> Rules:
    """Trains on the answers of the same gated consensus, without any contrast."""
    labels: Literal["anchors", "none"] = "anchors" if config.labelled else "none"
    return Rules(pairs=False, anchors="all", labels=labels, gate=True, calibrated=config.calibrate)


def true_labels(config: MineConfig) -> Rules:
    """The ceiling: true answers in place of the consensus."""
    return Rules(
        anchors="unanimous" if config.anchors else "none",
        labels="pairs" if config.labelled else "none",
        capped=True,
        truth=True,
    )


ARMS: dict[str, Callable[[MineConfig], Rules]] = {
    "consensus": consensus,
    "plain": plain,
    "self_training": self_training,
    "true_labels": true_labels,
}


def rules_of(config: MineConfig) -> Rules:
    """The rules of the config's arm."""
    return ARMS[config.arm](config)
