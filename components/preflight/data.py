"""Checks of the user's data: schema, listings, labels, images, and whether there are enough listings for the plan."""

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from attrloop.components.annotate.plan import Plan, make_plan
from attrloop.components.catalogue.images import ImageReader
from attrloop.components.catalogue.readers import UNKNOWN_LISTING, read_labels, read_listings
from attrloop.components.catalogue.records import Label, Listing
from attrloop.components.catalogue.schema import Schema, load_schema
from attrloop.components.errors import InputError, Problem
from attrloop.components.preflight.finding import Finding
from attrloop.components.run.config import RunConfig
from attrloop.components.storage import inputs

_SHOWN = 20  # bad images that are listed


@dataclass
class Catalogue:
    """As much of the data as could be read.

    Attributes:
        schema: None when it could not be read.
        listings: by id.
        labels: those given.
        plan: who labels what; None when schema, listings or labels are faulty.
        pixels: mean pixels of the images opened; None when none were.
    """

    schema: Schema | None = None
    listings: dict[str, Listing] = field(default_factory=dict)
    labels: list[Label] = field(default_factory=list)
    plan: Plan | None = None
    pixels: float | None = None


def read_catalogue(config: RunConfig) -> tuple[Catalogue, list[Finding]]:
    """Reads schema, listings and labels, and finds every fault of every row."""
    data, catalogue = config.data, Catalogue()
    schema, listings, labels = Finding("schema"), Finding("listings"), Finding("labels given")
    with schema.gathering(data.catalogue_schema):
        catalogue.schema = load_schema(data.catalogue_schema)
        schema.detail = f"{len(catalogue.schema.verticals)} verticals, {len(catalogue.schema.tasks())} attributes"
    if catalogue.schema is None:
        listings.detail = labels.detail = "not read: they cannot be checked without the schema"
        listings.note = labels.note = True
        return catalogue, [schema, listings, labels]
    with listings.gathering(data.listings):
        catalogue.listings = {row.id: row for row in read_listings(data.listings, catalogue.schema, listings.problems)}
    images = sum(len(row.images) for row in catalogue.listings.values())
    listings.detail = f"{len(catalogue.listings):,} listings, {images:,} images"
    if not catalogue.listings and not listings.problems:
        listings.problems.append(
            Problem(data.listings, "no listings", "Write one JSON object a line, or a Parquet row, for each listing")
        )
    _read_labels(catalogue, catalogue.schema, data.labels, labels, bool(listings.problems))
    if not listings.problems and not labels.problems:
        with labels.gathering(data.labels):
            catalogue.plan = make_plan(config, catalogue.schema, catalogue.listings, catalogue.labels)
    return catalogue, [schema, listings, labels]


def _read_labels(catalogue: Catalogue, schema: Schema, path: str, finding: Finding, faulty_listings: bool) -> None:
    finding.detail = "none"
    if not path:
        return
    with finding.gathering(path):
        catalogue.labels = read_labels(path, schema, catalogue.listings, finding.problems)
    if faulty_listings:  # a faulty listing is unknown to its labels: that is not a second problem
        finding.problems = [problem for problem in finding.problems if problem.what != UNKNOWN_LISTING]
    labelled = len({row.listing for row in catalogue.labels})
    finding.detail = f"{len(catalogue.labels):,} labels of {labelled:,} listings"


def check_amount(config: RunConfig, catalogue: Catalogue) -> Finding:
    """Every vertical has enough listings to label, and some are left without a label to learn from."""
    finding = Finding("enough listings")
    plan, where = catalogue.plan, config.data.listings
    if catalogue.schema is None or plan is None:
        finding.detail, finding.note = "not checked: fix the problems above first", True
        return finding
    finding.problems += _short_verticals(catalogue, catalogue.schema, plan, where)
    left = sum(map(len, plan.candidates.values())) - plan.wanted
    if config.loop.iterations and left + plan.surplus <= 0:
        finding.problems.append(
            Problem(where, "no listing is left without a label", "Add unlabelled listings, or set loop.iterations to 0")
        )
    surplus = (
        f"; {plan.surplus} listings with labels are not used (raise annotate.*_per_vertical)" if plan.surplus else ""
    )
    finding.detail = f"{plan.wanted:,} to be labelled by the API, {max(left, 0):,} left without a label{surplus}"
    finding.note = bool(plan.surplus)
    return finding


def _short_verticals(catalogue: Catalogue, schema: Schema, plan: Plan, where: str) -> Iterator[Problem]:
    sizes = Counter(listing.vertical for listing in catalogue.listings.values())
    trained = {catalogue.listings[label.listing].vertical for label in plan.given if label.split == "train"}
    for vertical in schema.verticals:
        wanted, there = len(plan.slots[vertical]), len(plan.candidates[vertical])
        if not sizes[vertical]:
            remedy = "Add listings or take it out of the schema"
            yield Problem(f"{where} (vertical {vertical})", "no listing of this vertical", remedy)
        elif wanted > there:
            what = f"{wanted} listings are to be labelled, but {there} have no label yet"
            yield Problem(f"{where} (vertical {vertical})", what, "Add listings, or lower annotate.*_per_vertical")
        elif vertical not in trained and "train" not in plan.slots[vertical]:
            yield Problem(f"vertical {vertical}", "would have no training label", "Raise annotate.train_per_vertical")


def check_images(config: RunConfig, catalogue: Catalogue, count: int) -> Finding:
    """Opens some images, drawn at random; more unreadable ones than `data.max_bad_images` are problems.

    Args:
        config: the run's config.
        catalogue: what was read; gets the mean pixels of the images.
        count: how many to open, at most.
    """
    finding = Finding("images")
    every = [(listing, name) for listing in catalogue.listings.values() for name in listing.images]
    drawn = random.Random(config.seed).sample(every, min(count, len(every)))
    reader = ImageReader(inputs.parent(config.data.listings), config.data)
    pixels: list[int] = []

    def look(item: tuple[Listing, str]) -> Problem | None:
        listing, name = item
        try:
            image = reader.open(name)
        except InputError as error:
            found = error.problems[0]
            return Problem(f"listing {listing.id}, image {found.where}", found.what, found.remedy)
        pixels.append(image.width * image.height)
        return None

    bad: list[Problem] = []
    with finding.gathering(config.data.listings), ThreadPoolExecutor(8) as pool:
        reader.fetch(name for _, name in drawn)
        bad += [problem for problem in pool.map(look, drawn) if problem]
    catalogue.pixels = sum(pixels) / len(pixels) if pixels else None
    finding.detail = f"{len(drawn):,} of {len(every):,} opened, {len(bad)} unreadable"
    finding.note = bool(bad)
    most = config.data.max_bad_images
    if len(bad) > most * len(drawn):
        what = f"{len(bad)} of {len(drawn)} images checked are unreadable; data.max_bad_images = {most:g} allows fewer"
        remedy = "Replace the images named below, or raise data.max_bad_images"
        finding.problems = [Problem(config.data.listings, what, remedy), *bad[:_SHOWN]]
    elif bad:
        finding.detail += f", e.g. {bad[0]}"
    return finding
