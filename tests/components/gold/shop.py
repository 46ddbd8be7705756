"""A catalogue of photographs on disk, and runs that learn from it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from attrloop.components.run.config import RunConfig
from attrloop.components.run.workspace import Workspace
from tests.photographs import COPIES, photograph

VERTICALS = ("mug", "lamp")


@dataclass
class Shop:
    """Listings by id, each with the names of its photographs, and the labels that are given."""

    folder: Path
    listings: dict[str, list[str]] = field(default_factory=dict)
    labels: list[dict[str, Any]] = field(default_factory=list)

    def picture(self, number: int, copy: str = "png") -> str:
        """The name of a photograph, or of a copy of it, which is made when it is first asked for."""
        name = f"{number}-{copy}.img"
        if not (path := self.folder / name).exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(COPIES[copy](photograph(number, (96, 72))))
        return name

    def add(self, *ids: str, pictures: list[str] | None = None) -> None:
        """Adds listings, each with a photograph of its own if none are given."""
        for listing in ids:
            self.listings[listing] = pictures or [self.picture(1_000_000 + len(self.listings))]

    def run(self, runs: Path, name: str = "run", kind: str = "jsonl", **sections: Any) -> Workspace:
        """A new workspace of a run over the catalogue as it is now."""
        self.folder.mkdir(parents=True, exist_ok=True)
        entry = {"attributes": {"colour": {"values": ["red", "blue"]}, "lid": {"values": ["yes", "no"]}}}
        (self.folder / "schema.yaml").write_text(yaml.safe_dump({"verticals": dict.fromkeys(VERTICALS, entry)}))
        rows = [{"id": id_, "vertical": VERTICALS[0], "images": images} for id_, images in self.listings.items()]
        listings = self.folder / f"listings.{kind}"
        if kind == "jsonl":
            listings.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            pl.DataFrame(rows).write_parquet(listings)
        (self.folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.labels))
        data = {
            "catalogue_schema": str(self.folder / "schema.yaml"),
            "listings": str(listings),
            "labels": str(self.folder / "labels.jsonl") if self.labels else "",
        }
        config = {"data": data | sections.pop("data", {}), "model": {"base": "none"}, **sections}
        return Workspace.create(str(runs / name), RunConfig.model_validate(config))
