"""Checks whether there are enough listings and labels: to train, to choose by, and to learn from without labels."""

from collections.abc import Iterator, Mapping

from attrloop.components.annotate.plan import MORE_LABELS, Cell, Plan, Shortfall, shortfalls, tally
from attrloop.components.catalogue.records import SPLITS
from attrloop.components.catalogue.schema import Schema
from attrloop.components.errors import Problem
from attrloop.components.preflight.data import Catalogue
from attrloop.components.preflight.finding import Finding, some
from attrloop.components.run.config import RunConfig

_SHORT = 6  # shortfalls that are listed


def check_amount(config: RunConfig, catalogue: Catalogue) -> Finding:
    """Every vertical can be trained on, choices can be made, and some listings are left to learn from without a label.

    Counts that are not reached are told, and stop nothing else.
    """
    finding = Finding("enough listings")
    plan, where = catalogue.plan, config.data.listings
    if catalogue.schema is None or plan is None or catalogue.splits is None:
        finding.detail, finding.note = "not checked: fix the problems above first", True
        return finding
    labels = tally(plan.given, catalogue.listings, plan.mixed)
    labels.update(Cell(ask.listing.vertical, name, ask.split) for ask in catalogue.asks for name in ask.attributes)
    finding.problems += _untrained(config, catalogue.schema, plan, labels)
    if config.loop.iterations and not any(cell.split == "validation" for cell in labels):
        what = "no listing gets a validation label, so the loop can choose nothing"
        remedy = "Add listings, give labels with split: validation, or raise annotate.validation_per_vertical"
        finding.problems.append(Problem(where, what, remedy))
    if config.annotate.test_per_vertical and not any(cell.split == "test" for cell in labels):
        what = "no listing gets a test label, so nothing can be promoted"
        given = "Raise annotate.max_calls" if not config.annotate.max_calls else "Add listings"
        remedy = f"{given}, give labels with split: test, or set annotate.test_per_vertical to 0 to do without"
        finding.problems.append(Problem(where, what, remedy))
    left = len(catalogue.unlabelled)
    if config.loop.iterations and not left:
        what = "no listing of split train is left without a label"
        finding.problems.append(Problem(where, what, "Add unlabelled listings, or set loop.iterations to 0"))
    short = shortfalls(config.annotate, catalogue.schema, plan, labels)
    finding.detail = "; ".join(
        [
            f"{len(catalogue.asks):,} to be labelled by the API, {left:,} left without a label to learn from",
            *_left_out(plan),
            *_told(short),
        ]
    )
    finding.note = bool(short or plan.surplus or plan.reviewed or plan.mixed)
    return finding


def _untrained(config: RunConfig, schema: Schema, plan: Plan, labels: Mapping[Cell, int]) -> Iterator[Problem]:
    trained = {cell.vertical for cell in labels if cell.split == "train"}
    for vertical in schema.verticals:
        every = sum(plan.sizes.get((vertical, split), 0) for split in SPLITS)
        there = plan.sizes.get((vertical, "train"), 0)
        if not every:
            where = f"{config.data.listings} (vertical {vertical})"
            yield Problem(where, "no listing of this vertical", "Add listings or take it out of the schema")
        elif vertical not in trained:
            remedy = "Add listings, or give labels of it with split: train"
            if there and not config.annotate.train_per_vertical:
                remedy = "Raise annotate.train_per_vertical"
            elif there and not config.annotate.max_calls:
                remedy = "Raise annotate.max_calls, or give labels of it with split: train"
            what = f"would have no training label ({there:,} of its {every:,} listings are of split train)"
            yield Problem(f"vertical {vertical}", what, remedy)


def _left_out(plan: Plan) -> Iterator[str]:
    if plan.surplus:
        yield f"listings with labels that are not used: {plan.surplus:,} (raise annotate.*_per_vertical)"
    if plan.reviewed:
        yield (
            "gold listings whose labels from a review are left out, because these are no fair sample: "
            f"{len(plan.reviewed):,} ({some(plan.reviewed)})"
        )
    if plan.mixed:
        yield (
            "gold listings with labels that comparisons leave out, because they share photographs with another split: "
            f"{len(plan.mixed):,} ({some(plan.mixed)})"
        )


def _told(short: list[Shortfall]) -> Iterator[str]:
    if short:
        told = ", ".join(map(str, short[:_SHORT])) + (f" and {len(short) - _SHORT} more" if len(short) > _SHORT else "")
        yield f"fewer labels than asked for: {told}. {MORE_LABELS}"
