"""A run's workspace: the store with everything that the run makes, its config, and the catalogue that it reads."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from attrloop.components.catalogue import prompts
from attrloop.components.catalogue.images import ImageReader
from attrloop.components.catalogue.readers import read_labels, read_listings
from attrloop.components.catalogue.records import Label, Listing
from attrloop.components.catalogue.schema import Schema, load_schema
from attrloop.components.documents import read_json
from attrloop.components.errors import InputError
from attrloop.components.run import layout
from attrloop.components.run.config import RunConfig
from attrloop.components.run.manifest import intact
from attrloop.components.storage import inputs
from attrloop.components.storage.opening import open_store
from attrloop.components.storage.store import Store
from attrloop.components.validation import problem_of


@dataclass
class Workspace:
    """An open workspace, from which every step starts. `layout` has the paths in it.

    Attributes:
        store: holds everything that the run makes.
        config: of the run.
    """

    store: Store
    config: RunConfig

    @staticmethod
    def open(uri: str) -> "Workspace":
        """Opens the workspace at a URI.

        Raises:
            InputError: there is none, or this version does not accept its config.
        """
        store = open_store(uri)
        where = f"{store.root}/{layout.CONFIG}"
        raw = read_json(store.read(layout.CONFIG), where)
        try:
            return Workspace(store, RunConfig.model_validate(raw))
        except ValidationError as error:  # another version wrote it, or a person edited it
            raise InputError([problem_of(fault, None, where) for fault in error.errors()]) from error

    @staticmethod
    def create(uri: str, config: RunConfig) -> "Workspace":
        """Creates a workspace with this config, or opens the existing one and replaces its config."""
        store = open_store(uri)
        store.write(layout.CONFIG, config.model_dump_json(indent=1).encode())
        return Workspace(store, config)

    @cached_property
    def schema(self) -> Schema:
        """The catalogue's schema."""
        return load_schema(self.config.data.catalogue_schema)

    @cached_property
    def listings(self) -> dict[str, Listing]:
        """All listings by id, in the catalogue's order."""
        return {listing.id: listing for listing in read_listings(self.config.data.listings, self.schema)}

    @cached_property
    def images(self) -> ImageReader:
        """Opens the images of listings."""
        return ImageReader(inputs.parent(self.config.data.listings), self.config.data)

    @cached_property
    def data_digest(self) -> str:
        """Digest of the catalogue's files, which are read once (see `DataConfig.content_digest`)."""
        return self.config.data.content_digest()

    def labels(self, split: str) -> list[Label]:
        """The labels that annotate wrote for a split: `train`, `validation` or `test`."""
        return [
            label
            for label in read_labels(intact(self.store, layout.LABELS), self.schema, self.listings)
            if label.split == split
        ]

    def adapter(self, path: str) -> Path | None:
        """A local copy of an adapter's folder.

        Args:
            path: of the adapter in the workspace; "" for the base model, which has none.

        Raises:
            InputError: its training is not finished, or a file of it is damaged.
        """
        return intact(self.store, path) if path else None

    def question(self, listing: Listing, attribute: str) -> str:
        """The text that asks about an attribute of a listing, with title and metadata if the config says so."""
        closed_list = self.schema.attribute(listing.vertical, attribute)
        return prompts.question(listing, attribute, closed_list, self.config.prompt.title, self.config.prompt.metadata)
