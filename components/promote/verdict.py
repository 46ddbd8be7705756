"""The verdict on a candidate: the gate's, on the gold that none of the compared models has learnt from."""

import polars as pl

from attrloop.components.gold.learnt import unknown_history
from attrloop.components.gold.left_out import NEW_GOLD, LeftOut, Omission, left_out, no_gold
from attrloop.components.promote.challenge import Challenge
from attrloop.components.promote.gate import judge
from attrloop.components.promote.ledger import Verdict
from attrloop.components.run import layout
from attrloop.components.run.workspace import Workspace


def left_out_of_test(ws: Workspace) -> list[LeftOut]:
    """The test gold that none of a run's stages is judged by."""
    return [row for row in left_out(ws) if row.split == "test"]


def verdict_on(challenge: Challenge, champion: str | None) -> Verdict:
    """Judges a candidate.

    Test gold that the candidate, its opponent or an ancestor of theirs has learnt from is left out for both. If nothing
    remains, the candidate is refused.

    Args:
        challenge: of the candidate's run.
        champion: the champion's version; None for none.

    Raises:
        InputError: there are no predictions on test.
        AttrloopError: see `Challenge.champion`.
    """
    ws, state = challenge.ws, challenge.state
    gold, rows = {label.listing for label in ws.labels("test")}, left_out_of_test(ws)
    against = f"version {champion}" if champion else state.reference.stage
    files = [layout.LEFT_OUT_FILE] if rows else []
    if gold == {row.listing for row in rows}:
        omission = Omission.of_listings(rows, len(gold)) if rows else None
        return _not_compared(against, *no_gold(ws, "test"), omission)
    opponent = challenge.opponent(champion)
    rows = list({row.listing: row for row in (*opponent.left_out, *rows)}.values())
    files += [f"{layout.champion(champion)}/{layout.LEFT_OUT_FILE}"] if champion and opponent.left_out else []
    omission = Omission.of_listings(rows, len(gold)) if rows else None
    told = f"{omission.text} (all in {' and '.join(files)})" if omission else ""
    out = {row.listing for row in rows}
    if gold == out:
        return _not_compared(against, told, NEW_GOLD, omission)
    candidate, other = (
        side.filter(~pl.col("listing").is_in(out)) for side in (challenge.candidate(), opponent.predictions)
    )
    verticals, config, seed = ws.schema.verticals, ws.config.promote, ws.config.seed
    verdict = judge(candidate, other, against=against, verticals=verticals, config=config, seed=seed)
    unknown = tuple(sorted({*challenge.unknown, *opponent.unknown}))
    notes = filter(None, (verdict.reason, told, unknown_history(unknown) if unknown else ""))
    return verdict.model_copy(update={"reason": "; ".join(notes), "left_out": omission, "unknown": unknown})


def _not_compared(against: str, why: str, remedy: str, omission: Omission | None) -> Verdict:
    reason = f"there is no gold to compare by: {why}. {remedy}"
    return Verdict(passed=False, reason=reason, against=against, left_out=omission)
