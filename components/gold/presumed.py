"""Splits of listings in a catalogue that is too large to look at all of its photographs, such as one to predict."""

from collections.abc import Iterable, Mapping

import polars as pl

from attrloop.components.catalogue.records import Listing, Split
from attrloop.components.gold.decide import Splits
from attrloop.components.gold.split import drawn_split, rank
from attrloop.components.gold.survey import survey
from attrloop.components.run.workspace import Workspace


def presumed(listings: Iterable[str], remembered: Mapping[str, Split]) -> pl.DataFrame:
    """The splits of listings if they share no photograph with others, which `splits_among` finds out.

    Args:
        listings: their ids.
        remembered: splits that earlier runs decided.

    Returns:
        Columns listing, split and rank.
    """
    rows = [(key, remembered.get(key) or drawn_split(key), rank(key)) for key in listings]
    return pl.DataFrame(rows, schema={"listing": pl.String, "split": pl.String, "rank": pl.Float64}, orient="row")


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
