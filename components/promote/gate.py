"""The rules that a candidate must meet to become champion, judged on the gold of the test split."""

from collections.abc import Iterable

import polars as pl

from attrloop.components.errors import fail
from attrloop.components.promote.ledger import Verdict
from attrloop.components.results.comparison import Change, paired_bootstrap
from attrloop.components.results.metrics import accuracy
from attrloop.components.run.config import PromoteConfig


def judge(
    candidate: pl.DataFrame,
    champion: pl.DataFrame,
    *,
    against: str,
    verticals: Iterable[str],
    config: PromoteConfig,
    seed: int,
) -> Verdict:
    """Compares two sets of predictions on the same gold by paired bootstrap over listings.

    The candidate passes when every vertical has enough gold, the interval of the macro gain lies above 0, no vertical
    is significantly worse, and no vertical's accuracy is below the floor. Significantly worse means that the interval
    lies below 0 at a Bonferroni-corrected confidence: all verticals share the error of `1 - confidence`. A fixed
    allowance for each vertical ('no more than two points') would refuse nearly every candidate that is as good as the
    champion, because among many verticals one always falls by chance.

    Args:
        candidate: predictions (the columns of `records.Prediction`) of the candidate on test.
        champion: predictions of the model that it would replace, on the same samples.
        against: what `champion` is, for the record.
        verticals: all that need gold: those of the schema.
        config: the thresholds.
        seed: seed of the resampling.

    Returns:
        The verdict with all reasons, not only the first.

    Raises:
        InputError: the two sets disagree on gold values or have no sample in common.
    """
    names = list(verticals)
    gold = dict(candidate.group_by("vertical").len().iter_rows())
    few = [f"{name} ({gold.get(name, 0)})" for name in names if gold.get(name, 0) < config.min_gold]
    if few:
        needed = f"{config.min_gold} test samples per vertical are needed, there are fewer in {', '.join(few)}"
        return Verdict(passed=False, reason=f"too few gold labels: {needed}", against=against)
    gain = paired_bootstrap(champion, candidate, resamples=config.resamples, seed=seed, confidence=config.confidence)
    corrected = 1 - (1 - config.confidence) / len(names)
    strict = paired_bootstrap(champion, candidate, resamples=config.resamples, seed=seed, confidence=corrected)
    macro = gain.macro
    if macro.count != candidate.height:
        what = f"they cover {macro.count} of the candidate's {candidate.height} gold samples"
        raise fail(f"predictions of {against}", what, "Evaluate both on the same gold labels")
    faults = [] if macro.low > 0 else [f"the macro gain over {against} is not significant ({_shown(macro)})"]
    worse = [name for name, change in strict.verticals.items() if change.high < 0]
    faults += [f"{name} is significantly worse ({_shown(gain.verticals[name])})" for name in worse]
    for key, part in sorted(candidate.group_by("vertical")):
        if (right := accuracy(part)) < config.floor:
            faults.append(f"{key[0]} is below the floor ({right:.3f} < {config.floor:g})")
    reason = "; ".join(faults) or f"macro gain over {against} {_shown(macro)}, no vertical significantly worse"
    return Verdict(passed=not faults, reason=reason, against=against, macro=macro, verticals=gain.verticals)


def _shown(change: Change) -> str:
    return f"{100 * change.delta:+.1f} points, {100 * change.low:+.1f} to {100 * change.high:+.1f}"
