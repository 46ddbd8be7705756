"""The loop's state: the one string that travels from iteration to iteration."""

from pydantic import BaseModel, ConfigDict


class Outcome(BaseModel):
    """The result of one stage on the validation split.

    Attributes:
        stage: `base`, `sft`, `iteration-1`, ...
        adapter: path of its adapter in the workspace; "" for the base model.
        macro: macro accuracy on validation (mean over verticals), in [0, 1].
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    stage: str
    adapter: str
    macro: float


class LoopState(BaseModel):
    """What an iteration needs to know, and whether it should run at all.

    Attributes:
        outcomes: outcomes of the stages so far, in order.
        stop: whether the loop ends here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    outcomes: tuple[Outcome, ...]
    stop: bool = False

    @property
    def latest(self) -> Outcome:
        """The last stage."""
        return self.outcomes[-1]

    @property
    def first(self) -> Outcome:
        """The stage that the iterations started from: SFT, or an adapter that was trained before."""
        return next(outcome for outcome in self.outcomes if outcome.adapter)

    @property
    def best(self) -> Outcome:
        """The best trained stage on validation, the earlier of two equal ones. The base is not a candidate."""
        return max((o for o in self.outcomes if o.adapter), key=lambda o: (o.macro, -self.outcomes.index(o)))

    @property
    def reference(self) -> Outcome:
        """The stage that the best one is compared with: the first adapter, or the base where that one is the best."""
        return self.first if self.first != self.best else self.outcomes[0]

    def after(self, outcome: Outcome, min_gain: float) -> "LoopState":
        """The state after another iteration.

        Args:
            outcome: the iteration's result.
            min_gain: the loop stops when the gain over the best stage so far is smaller.
        """
        return LoopState(outcomes=(*self.outcomes, outcome), stop=outcome.macro - self.best.macro < min_gain)
