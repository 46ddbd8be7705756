"""A survey of a catalogue: its photographs, the groups of listings that share them, and what the register remembers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from attrloop.components.catalogue.images import ImageReader
from attrloop.components.catalogue.records import Listing, Split
from attrloop.components.digests import digest
from attrloop.components.gold.decide import Splits, decide
from attrloop.components.gold.groups import grouped, identified
from attrloop.components.gold.photographs import look
from attrloop.components.gold.register import Register, register_of, remembered_splits
from attrloop.components.run.config import RunConfig
from attrloop.components.storage import inputs

_SPLITS = {"listing": pl.String, "split": pl.String}


@dataclass
class Survey:
    """A catalogue, with all that decides the splits of its listings.

    Attributes:
        listings: ids of its listings.
        stated: splits that the labels file names, by listing.
        register: where splits are remembered.
        looked: what is known of its photographs, as `photographs.look` returns it, with the listing of each.
        whole: whether these are all listings of the catalogue; else the remembered ones are taken for a part of it too.
        splits: as decided last.
        met: listings that an earlier run has met, with photographs then and now.
        strangers: how many of them show none of the photographs that they showed last.
    """

    listings: Sequence[str]
    stated: Mapping[str, Split]
    register: Register
    looked: pl.DataFrame
    whole: bool = True
    splits: Splits = field(init=False)
    met: int = field(init=False)
    strangers: int = field(init=False)

    def __post_init__(self) -> None:
        """Decides."""
        self._decide()

    def _decide(self) -> None:
        """Decides by what the register holds now, and finds the rows that it lacks."""
        before = self.register.listings.rows()
        seen = self.register.photographs.rows()
        now = self.looked.select("photograph", "fingerprint", entry=pl.lit(seen["entry"].max() or 0, pl.Int32) + 1)
        keys = identified(pl.concat([seen.select(now.columns), now]))
        own = self.looked.select("listing", "photograph").unique()
        pairs = before.unique("listing", keep="last").select("listing", photograph="photographs")
        pairs = pairs.explode("photograph").drop_nulls().unique()
        self._photographs = own.join(keys, on="photograph").sort("listing", "photograph")
        earlier = pairs.join(keys, on="photograph").select("listing", "key")
        present = self._photographs.select("listing", "key").unique()
        self.met = present.join(earlier, on="listing", how="semi")["listing"].n_unique()
        self.strangers = self.met - present.join(earlier, on=["listing", "key"], how="semi")["listing"].n_unique()
        gone = earlier.join(own, on="listing", how="anti")
        groups = grouped(pl.concat([present, gone]).unique())
        remembered = remembered_splits(before)
        self.splits = decide(
            self.listings,
            self.stated,
            remembered,
            groups,
            present=grouped(present) if self.whole else groups,
            whole=self.whole,
        )
        changed = [listing for listing, split in self.splits.of.items() if remembered.get(listing) != split]
        came = own.join(pairs, on=["listing", "photograph"], how="anti")
        went = pairs.join(own, on="listing", how="semi").join(own, on=["listing", "photograph"], how="anti")
        new = pl.Series("listing", [*changed, *came["listing"], *went["listing"]], pl.String)
        photographs = own.sort("photograph").group_by("listing").agg(photographs="photograph")
        of = pl.DataFrame({"listing": self.splits.of.keys(), "split": self.splits.of.values()}, schema=_SPLITS)
        self._new = of.filter(pl.col("listing").is_in(new.implode())).join(photographs, on="listing", how="left")

    def remember(self) -> Splits:
        """Remembers the splits. If another run was faster, they are decided again, by what it has remembered.

        Raises:
            AttrloopError: the register cannot be written.
        """
        while self._new.height and not self.register.listings.add(self._new):
            self._decide()
        return self.splits

    @property
    def photographs(self) -> pl.DataFrame:
        """Columns listing, photograph (the digest of its bytes) and key, which a photograph's copies have in common."""
        return self._photographs

    @property
    def digest(self) -> str:
        """Changes when a photograph is replaced."""
        return digest(self._photographs.select("listing", "photograph").rows())


def survey(
    config: RunConfig,
    workspace: str,
    listings: Mapping[str, Listing],
    stated: Mapping[str, Split],
    most: int = -1,
    *,
    whole: bool = True,
) -> Survey:
    """Looks at the photographs of listings, and decides the listings' splits. Nothing is remembered yet.

    Args:
        config: the run's.
        workspace: URI of its workspace, or where it will be.
        listings: by id.
        stated: splits that the labels file names, by listing.
        most: photographs that are looked at, at most; what is seen of them is then not kept. -1 for all, which is kept.
        whole: see `Survey`.

    Raises:
        AttrloopError: the register is damaged, cannot be read or cannot be written; or a bucket cannot be read.
    """
    register = register_of(config, workspace)
    images = pl.DataFrame(
        [(row.id, image) for row in listings.values() for image in row.images],
        schema={"listing": pl.String, "image": pl.String},
        orient="row",
    )
    images = images if most < 0 else images.head(most)

    def keep(rows: pl.DataFrame) -> None:
        while not register.photographs.add(rows):
            register.photographs.rows()

    reader = ImageReader(inputs.parent(config.data.listings), config.data)
    looked = look(reader, images["image"], register.photographs.rows(), keep if most < 0 else None)
    return Survey(list(listings), stated, register, images.join(looked, on="image"), whole)
