"""Checks of the user's data: schema, listings, labels and images."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from attrloop.components.annotate.plan import Plan, make_plan
from attrloop.components.annotate.turns import Ask, Turns
from attrloop.components.catalogue.images import ImageReader
from attrloop.components.catalogue.prompts import is_cut
from attrloop.components.catalogue.readers import UNKNOWN_LISTING, read_labels, read_listings
from attrloop.components.catalogue.records import Label, Listing
from attrloop.components.catalogue.schema import Schema, load_schema
from attrloop.components.errors import InputError, Problem
from attrloop.components.gold.decide import Splits
from attrloop.components.gold.stated import stated_splits
from attrloop.components.gold.survey import Survey
from attrloop.components.preflight.finding import Finding
from attrloop.components.preflight.splits import check_splits
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
        survey: of the photographs and what is remembered; None when schema, listings or labels are faulty.
        plan: who labels what; None without a survey.
        asks: what the annotator is to be asked first, before it gives unusable replies; none where no call is allowed.
        pixels: mean pixels of the images opened; None when none were.
    """

    schema: Schema | None = None
    listings: dict[str, Listing] = field(default_factory=dict)
    labels: list[Label] = field(default_factory=list)
    survey: Survey | None = None
    plan: Plan | None = None
    asks: list[Ask] = field(default_factory=list)
    pixels: float | None = None

    @property
    def splits(self) -> Splits | None:
        """The splits of the listings; None without a survey."""
        return self.survey.splits if self.survey else None

    @property
    def labelled(self) -> set[str]:
        """The ids of the listings that have or will get labels."""
        given = self.plan.given if self.plan else []
        return {label.listing for label in given} | {ask.listing.id for ask in self.asks}

    @property
    def unlabelled(self) -> list[Listing]:
        """The listings that will have no label and may be learnt from: those of split train."""
        labelled, splits = self.labelled, self.splits.of if self.splits else {}
        return [row for key, row in self.listings.items() if splits.get(key) == "train" and key not in labelled]


def read_catalogue(config: RunConfig, workspace: str, photographs: int = -1) -> tuple[Catalogue, list[Finding]]:
    """Reads schema, listings and labels, finds every fault of every row, and decides the listings' splits.

    Args:
        config: the run's config.
        workspace: URI of its workspace, or where it will be.
        photographs: see `survey`.
    """
    data, catalogue = config.data, Catalogue()
    schema, listings, labels = Finding("schema"), Finding("listings"), Finding("labels given")
    with schema.gathering(data.catalogue_schema):
        catalogue.schema = load_schema(data.catalogue_schema)
        schema.detail = f"{len(catalogue.schema.verticals)} verticals, {len(catalogue.schema.tasks())} attributes"
        if alike := catalogue.schema.alike():
            schema.detail += f"; spelt nearly the same: {'; '.join(alike[:3])}"
            schema.note = True
    if catalogue.schema is None:
        listings.detail = labels.detail = "not read: they cannot be checked without the schema"
        listings.note = labels.note = True
        return catalogue, [schema, listings, labels]
    with listings.gathering(data.listings):
        catalogue.listings = {row.id: row for row in read_listings(data.listings, catalogue.schema, listings.problems)}
    images = sum(len(row.images) for row in catalogue.listings.values())
    listings.detail = f"{len(catalogue.listings):,} listings, {images:,} images"
    if long := [row.id for row in catalogue.listings.values() if is_cut(row)]:
        listings.note = True
        listings.detail += f"; the title or metadata of {len(long):,} is cut in prompts (first: listing {long[0]})"
    if not catalogue.listings and not listings.problems:
        listings.problems.append(
            Problem(data.listings, "no listings", "Write one JSON object a line, or a Parquet row, for each listing")
        )
    _read_labels(catalogue, catalogue.schema, data.labels, labels, bool(listings.problems))
    findings = [schema, listings, labels]
    if not listings.problems and not labels.problems:
        with labels.gathering(data.labels):
            stated = stated_splits(catalogue.labels, data.labels)
            catalogue.survey, splits = check_splits(config, workspace, catalogue.listings, stated, photographs)
            findings.append(splits)
    if catalogue.splits:
        catalogue.plan = make_plan(config, catalogue.schema, catalogue.listings, catalogue.labels, catalogue.splits)
        catalogue.asks = Turns(catalogue.plan).round() if config.annotate.max_calls else []
    return catalogue, findings


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
