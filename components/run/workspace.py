"""A run's workspace: the store that holds everything the run made, its config, and the catalogue it reads."""

from dataclasses import dataclass
from functools import cached_property

from pydantic import ValidationError

from attrloop.components.catalogue import prompts
from attrloop.components.catalogue.images import ImageReader
from attrloop.components.catalogue.records import Label, Listing, read_labels, read_listings
from attrloop.components.catalogue.schema import Schema, load_schema
from attrloop.components.errors import InputError
from attrloop.components.run import layout
from attrloop.components.run.config import RunConfig
from attrloop.components.storage import inputs
from attrloop.components.storage.store import Store, open_store
from attrloop.components.validation import problem_of


@dataclass
class Workspace:
    """Every component opens it from one string, the workspace's URI. `layout` says where everything lies in it."""

    store: Store
    config: RunConfig

    @staticmethod
    def open(uri: str) -> "Workspace":
        """The workspace at a URI.

        Raises:
            InputError: there is none, or its config holds what this version refuses.
        """
        store = open_store(uri)
        try:
            return Workspace(store, RunConfig.model_validate_json(store.read(layout.CONFIG)))
        except ValidationError as error:  # of another version, or edited
            raise InputError(
                [problem_of(fault, None, f"{store.root}/{layout.CONFIG}") for fault in error.errors()]
            ) from error

    @staticmethod
    def create(uri: str, config: RunConfig) -> "Workspace":
        """Writes the config; the same run again finds its own workspace."""
        store = open_store(uri)
        store.write(layout.CONFIG, config.model_dump_json(indent=1).encode())
        return Workspace(store, config)

    @cached_property
    def schema(self) -> Schema:
        return load_schema(self.config.data.catalogue_schema)

    @cached_property
    def listings(self) -> dict[str, Listing]:
        return {listing.id: listing for listing in read_listings(self.config.data.listings, self.schema)}

    @cached_property
    def images(self) -> ImageReader:
        return ImageReader(inputs.parent(self.config.data.listings), self.config.data)

    @cached_property
    def data_digest(self) -> str:
        """See `DataConfig.content_digest`; the files are read once."""
        return self.config.data.content_digest()

    def labels(self, split: str) -> list[Label]:
        """The labels of a split (`train`, `validation`, `test`) that `annotate` has written."""
        return [
            label
            for label in read_labels(self.store.file(layout.LABELS), self.schema, self.listings)
            if label.split == split
        ]

    def question(self, listing: Listing, attribute: str) -> str:
        """The text of a prompt, as the run's config has it."""
        closed_list = self.schema.attribute(listing.vertical, attribute)
        return prompts.question(listing, attribute, closed_list, self.config.prompt.title, self.config.prompt.metadata)

    def unlabelled(self) -> list[Listing]:
        """Listings without any label, in catalogue order."""
        labelled = {label.listing for split in ("train", "validation", "test") for label in self.labels(split)}
        return [listing for listing in self.listings.values() if listing.id not in labelled]
