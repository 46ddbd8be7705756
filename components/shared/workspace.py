"""A run's workspace: the store that holds everything the run made, its config, and the catalogue it reads."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from pydantic import ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from attrloop.components.shared import prompts
from attrloop.components.shared.config import RunConfig
from attrloop.components.shared.errors import InputError
from attrloop.components.shared.images import ImageReader
from attrloop.components.shared.records import Label, Listing, read_labels, read_listings
from attrloop.components.shared.schema import Schema, load_schema, problem_of
from attrloop.components.shared.storage.store import Store, open_store

CONFIG = "config.json"
LABELS = "annotate/labels.jsonl"


@dataclass
class Workspace:
    """Opened by every component from one string, the workspace's URI.

    Layout: `config.json`, `preflight/`, `annotate/`, `sft/`, `iteration-<k>/{chains,pairs,dpo}/`, `evaluate/<stage>/`, `register/`,
    `promote/`, `report.html`, `summary.json`.
    """

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
            return Workspace(store, RunConfig.model_validate_json(store.read(CONFIG)))
        except ValidationError as error:  # of another version, or edited
            raise InputError([problem_of(fault, None, f"{store.root}/{CONFIG}") for fault in error.errors()]) from error

    @staticmethod
    def create(uri: str, config: RunConfig) -> "Workspace":
        """Writes the config; the same run again finds its own workspace."""
        store = open_store(uri)
        store.write(CONFIG, config.model_dump_json(indent=1).encode())
        return Workspace(store, config)

    @cached_property
    def schema(self) -> Schema:
        return load_schema(self.config.data.catalogue_schema)

    @cached_property
    def listings(self) -> dict[str, Listing]:
        return {listing.id: listing for listing in read_listings(self.config.data.listings, self.schema)}

    @cached_property
    def images(self) -> ImageReader:
        return ImageReader.of(self.config.data)

    @cached_property
    def data_digest(self) -> str:
        """See `DataConfig.content_digest`; the files are read once."""
        return self.config.data.content_digest()

    def labels(self, split: str) -> list[Label]:
        """The labels of a split (`train`, `validation`, `test`) that `annotate` has written."""
        return [label for label in read_labels(self.store.file(LABELS), self.schema, self.listings) if label.split == split]

    def question(self, listing: Listing, attribute: str) -> str:
        """The text of a prompt, as the run's config has it."""
        closed_list = self.schema.attribute(listing.vertical, attribute)
        return prompts.question(listing, attribute, closed_list, self.config.prompt.title, self.config.prompt.metadata)

    def unlabelled(self) -> list[Listing]:
        """Listings without any label, in catalogue order."""
        labelled = {label.listing for split in ("train", "validation", "test") for label in self.labels(split)}
        return [listing for listing in self.listings.values() if listing.id not in labelled]


@contextmanager
def progress(title: str, total: int | None, unit: str) -> Iterator["Ticker"]:
    """A progress bar with rate and time left; plain lines where the output is no terminal."""
    count, rate = MofNCompleteColumn(), TextColumn("{task.fields[rate]}")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), count, rate, TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stdout.isatty()) as bar:
        yield Ticker(bar, bar.add_task(title, total=total, rate=""), unit)


@dataclass
class Ticker:
    bar: Progress
    task: TaskID
    unit: str
    told: float = field(default_factory=time.monotonic)

    def advance(self, count: int = 1) -> None:
        """Counts work that is done; where the output is no terminal, says so every two seconds and at the end."""
        task = self.bar.tasks[0]
        self.bar.advance(self.task, count)
        if task.speed:
            self.bar.update(self.task, rate=f"{task.speed:,.1f} {self.unit}/s")
        now = time.monotonic()
        if self.bar.disable and (now - self.told > 2 or task.finished):
            self.told = now
            left = f", {task.time_remaining:.0f} s left" if task.time_remaining else ""
            of = f"/{task.total:,.0f}" if task.total is not None else ""
            print(f"{task.description}: {task.completed:,.0f}{of} {task.fields['rate']}{left}".rstrip(), flush=True)
