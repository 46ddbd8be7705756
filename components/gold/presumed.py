"""Splits of listings in a catalogue that is too large to look at all of its photographs, such as one to predict."""

from collections.abc import Iterable, Mapping

import polars as pl

from attrloop.components.catalogue.records import Listing, Split
from attrloop.components.gold.decide import Splits
from attrloop.components.gold.register import register_of
from attrloop.components.gold.split import drawn_split, rank
from attrloop.components.gold.survey import survey
from attrloop.components.run.workspace import Workspace

_SPLITS = {"listing": pl.String, "split": pl.String}


def known_splits(ws: Workspace, stated: Mapping[str, Split]) -> pl.DataFrame:
    """The splits that a labels file names, and those that earlier runs decided of other listings.

    Returns:
        Columns listing and split, a row for each listing: a register of a million has room in them, but not in a dict.

    Raises:
        AttrloopError: the register of splits cannot be read.
    """
    named = pl.DataFrame({"listing": stated.keys(), "split": stated.values()}, schema=_SPLITS)
    remembered = register_of(ws.config, ws.store.root).listings.rows().select(*_SPLITS)
    return pl.concat([remembered, named]).unique("listing", keep="last")


def presumed(listings: Iterable[str], known: pl.DataFrame) -> pl.DataFrame:
    """The splits of listings if they share no photograph with others, which `splits_among` finds out.

    Args:
        listings: their ids, each once.
        known: splits that are known, as `known_splits` returns them.

    Returns:
        Columns listing, split and rank.
    """
    rows = [(key, drawn_split(key), rank(key)) for key in listings]
    drawn = pl.DataFrame(rows, schema={"listing": pl.String, "drawn": pl.String, "rank": pl.Float64}, orient="row")
    found = drawn.join(known, on="listing", how="left")
    return found.select("listing", pl.coalesce("split", "drawn"), "rank")


def splits_among(ws: Workspace, listings: Iterable[Listing], stated: Mapping[str, Split] | None = None) -> Splits:
    """Decides and remembers the splits of some listings of a catalogue; only their photographs are looked at.

    Args:
        ws: the workspace.
        listings: the listings.
        stated: splits that a labels file names, by listing.

    Raises:
        AttrloopError: as `survey`.
    """
    some = {listing.id: listing for listing in listings}
    return survey(ws.config, ws.store.root, some, stated or {}, whole=False).remember()
