"""The loop's state: the one string that travels from iteration to iteration."""

from pydantic import BaseModel, ConfigDict


class Outcome(BaseModel):
    """How one stage did on the validation split.

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
    """What an iteration needs to know, and whether it should run at all."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    outcomes: tuple[Outcome, ...]
    stop: bool = False

    @property
    def latest(self) -> Outcome:
        return self.outcomes[-1]

    @property
    def best(self) -> Outcome:
        """The best trained stage on validation (the base is not a candidate); the earlier of two that are equal."""
        return max((o for o in self.outcomes if o.adapter), key=lambda o: (o.macro, -self.outcomes.index(o)))

    def after(self, outcome: Outcome, min_gain: float) -> "LoopState":
        """The state once another iteration was evaluated: stops when it gained less than `min_gain` over the best so far."""
        return LoopState(outcomes=(*self.outcomes, outcome), stop=outcome.macro - self.best.macro < min_gain)
