"""What an artifact is made from: everything that can change what is in it, and nothing else."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import polars as pl

from attrloop.components.catalogue import prompts, schema
from attrloop.components.catalogue.images import ImageReader
from attrloop.components.digests import digest
from attrloop.components.run import layout
from attrloop.components.run.manifest import finished, intact, read_manifest
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.parquet import read_parquet
from attrloop.components.storage.store import Store

Source = Literal["catalogue", "photographs", "prompts", "values"]

PHOTOGRAPHS: Final = "photographs"
"""The name of the digest of all photographs, among what splits are made from."""


def photographs_seen(store: Store) -> str:
    """Digest of a catalogue's photographs when its splits were decided; "" where no splits are, as for predictions."""
    manifest = read_manifest(store, layout.SPLITS)
    return manifest.made_from[PHOTOGRAPHS] if manifest else ""


_SOURCES: dict[Source, Callable[[Workspace], str]] = {
    "catalogue": lambda ws: ws.data_digest,  # schema, listings and given labels
    PHOTOGRAPHS: lambda ws: f"version {ImageReader.version}, {photographs_seen(ws.store)}",
    "prompts": lambda ws: f"version {prompts.VERSION}",  # what is asked, and how an answer is read
    "values": lambda ws: f"version {schema.VERSION}",  # which spellings are one value
}

ASKED: tuple[Source, ...] = ("catalogue", "photographs", "prompts", "values")
"""What a model's answers about listings depend on, besides the model."""

BASE_MODEL = ("model.base", "model.revision", "model.dtype", "model.max_pixels", "model.processor")
"""The settings of the base model. Those of LoRA decide the first training only."""

READABLE = ("data.allowed_hosts", "data.allowed_folders", "data.max_image_bytes", "data.max_image_pixels")
"""The settings that decide which photographs can be read: for steps that leave out listings without."""


def trained(adapter: str) -> dict[str, str]:
    """The training that made an adapter, as `upstream`.

    Args:
        adapter: its path in the workspace; "" for the base model, which needs none.
    """
    return {"adapter": layout.trained_by(adapter)} if adapter else {}


@dataclass(frozen=True)
class MadeFrom:
    """What an artifact is made from. If any of it changes, the artifact is begun anew.

    Attributes:
        version: of the step's own code, not of the whole project. A step raises it when it makes something else from
            the same inputs, so that what an earlier version made is not reused.
        upstream: folders of finished artifacts, by what they are to this one.
        optional: the same for artifacts that need not be there.
        config: sections (`mine`) and fields (`model.base`) of the config.
        reads: what else is read: the catalogue, its photographs, and how they are shown and answers are read. A
            photograph that is replaced under its name counts.
        extra: anything else that decides, by name.
        listings: finds the ids of the listings whose photographs are read: those of others then do not count. None for
            all of the catalogue.
    """

    version: int
    upstream: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    config: tuple[str, ...] = ()
    reads: tuple[Source, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)
    listings: Callable[[Workspace], Iterable[str]] | None = None

    def digests(self, ws: Workspace) -> dict[str, str]:
        """A digest, or the version, of each input by name, as a manifest keeps it.

        Raises:
            InputError: an artifact that must be there is not finished; or a file of the catalogue is missing.
        """
        found = {"version": str(self.version), **self.extra}
        found |= {name: finished(ws.store, path).digest for name, path in self.upstream.items()}
        for name, path in self.optional.items():
            manifest = read_manifest(ws.store, path)
            found[name] = manifest.digest if manifest else ""
        if self.config:
            found["config"] = ws.config.digest(*self.config)
        found |= {name: _SOURCES[name](ws) for name in self.reads}
        if self.listings:
            finished(ws.store, layout.SPLITS)
            found[PHOTOGRAPHS] = f"version {ImageReader.version}, {_of_listings(ws.store, self.listings(ws))}"
        return found


def _of_listings(store: Store, listings: Iterable[str]) -> str:
    """Digest of the splits and photographs of some listings. What is decided of others can change only their groups."""
    ids = pl.DataFrame({"listing": sorted(set(listings))}, schema={"listing": pl.String})
    parts = []
    for name, columns in (
        (layout.SPLITS_FILE, ["listing", "split", "mixed"]),
        (layout.PHOTOGRAPHS_FILE, ["listing", "photograph", "key"]),
    ):
        rows = read_parquet(intact(store, f"{layout.SPLITS}/{name}"), columns)
        parts.append(rows.join(ids, on="listing", how="semi").sort(columns).rows())
    return digest(*parts)
