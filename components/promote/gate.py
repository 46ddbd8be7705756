"""The rules a candidate must satisfy to become champion, judged on the test split's gold."""

from collections.abc import Iterable

import polars as pl

from attrloop.components.errors import fail
from attrloop.components.evaluate.metrics import accuracy, paired_bootstrap
from attrloop.components.promote.ledger import Change, Verdict
from attrloop.components.run.config import PromoteConfig


def judge(
    candidate: pl.DataFrame,
    champion: pl.DataFrame,
    against: str,
    verticals: Iterable[str],
    config: PromoteConfig,
    seed: int,
) -> Verdict:
    """Compares two sets of predictions on the same gold by paired bootstrap over listings.

    The candidate passes when every vertical has enough gold; the interval of the macro gain lies above 0; no vertical is significantly worse, that is, its
    interval at a Bonferroni-corrected confidence (the error of `1 - confidence` is shared by all verticals) does not lie below 0; and no vertical's accuracy
    is below the floor. A fixed allowance per vertical ('no more than two points') would refuse nearly every candidate that is as good as the champion: among
    many verticals one always falls by chance.

    Args:
        candidate: predictions (the columns of `records.Prediction`) of the candidate on test.
        champion: those of the model it would replace, on the same samples.
        against: what `champion` is, for the record.
        verticals: all that need gold: the schema's.
        config: thresholds.
        seed: of the resampling.

    Returns:
        The verdict with all reasons, not only the first.

    Raises:
        InputError: the two sets disagree on gold values or have no sample in common.
    """
    names = list(verticals)
    gold = dict(candidate.group_by("vertical").len().iter_rows())
    few = [f"{name} ({gold.get(name, 0)})" for name in names if gold.get(name, 0) < config.min_gold]
    if few:
        reason = f"too few gold labels: {config.min_gold} test samples per vertical are needed, there are fewer in {', '.join(few)}"
        return Verdict(passed=False, reason=reason, against=against)
    found = paired_bootstrap(champion, candidate, config.resamples, config.confidence, seed)
    strict = paired_bootstrap(champion, candidate, config.resamples, 1 - (1 - config.confidence) / len(names), seed)
    macro = _change(found["macro"])
    if macro.count != candidate.height:
        where, what = (
            f"predictions of {against}",
            f"they cover {macro.count} of the candidate's {candidate.height} gold samples",
        )
        raise fail(where, what, "Evaluate both on the same gold labels")
    changes = {name: _change(entry) for name, entry in found["verticals"].items()}
    faults = [] if macro.low > 0 else [f"the macro gain over {against} is not significant ({_shown(macro)})"]
    worse = [name for name, entry in strict["verticals"].items() if entry["interval"][1] < 0]
    faults += [f"{name} is significantly worse ({_shown(changes[name])})" for name in worse]
    for key, part in sorted(candidate.group_by("vertical")):
        if (right := accuracy(part)) < config.floor:
            faults.append(f"{key[0]} is below the floor ({right:.3f} < {config.floor:g})")
    reason = "; ".join(faults) or f"macro gain over {against} {_shown(macro)}, no vertical significantly worse"
    return Verdict(passed=not faults, reason=reason, against=against, macro=macro, verticals=changes)


def _change(entry: dict) -> Change:
    return Change(delta=entry["delta"], low=entry["interval"][0], high=entry["interval"][1], count=entry["count"])


def _shown(change: Change) -> str:
    return f"{100 * change.delta:+.1f} points, {100 * change.low:+.1f} to {100 * change.high:+.1f}"
