"""A catalogue that is predicted already."""

from pathlib import Path

import pytest
import yaml
from PIL import Image

from attrloop.components.catalogue.records import Listing, to_frame
from attrloop.components.predict.votes import CataloguePrediction
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import DataConfig, ModelConfig, RunConfig
from attrloop.components.run.workspace import Workspace
from tests.splits import write_splits


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """Predictions of six mugs, in two shards: the confidence of mug-k is k/10, mug-2 is off the list."""
    colour = {
        "description": "of the glaze",
        "values": ["red", {"name": "blue", "description": "azure too", "synonyms": ["azure"]}, "green", "not_visible"],
    }
    schema = {
        "verticals": {
            "mug": {"attributes": {"colour": colour, "decor": {"values": ["dots", "hearts", "none"], "many": True}}}
        }
    }
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(schema))
    Image.new("RGB", (900, 30), "red").save(tmp_path / "a.png")
    rows = [
        Listing(id=f"mug-{k}", vertical="mug", images=("a.png", "https://shop.example/b.jpg"), title=f"Mug {k}")
        for k in range(6)
    ]
    (tmp_path / "listings.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
    data = DataConfig(
        catalogue_schema=str(tmp_path / "schema.yaml"),
        listings=str(tmp_path / "listings.jsonl"),
        allowed_folders=(str(tmp_path.parent),),
    )
    ws = Workspace.create(str(tmp_path / "run"), RunConfig(data=data, model=ModelConfig(base="none")))
    write_splits(ws, {row.id: "train" for row in rows})
    stage = Artifact(ws.store, "predictions", {})
    for number, shard in enumerate((range(3, 6), range(3))):
        made = [
            CataloguePrediction(
                listing=f"mug-{k}",
                vertical="mug",
                attribute=attribute,
                answer=None if k == 2 and attribute == "colour" else answer,
                confidence=k / 10,
                chains=10,
                rationale=f"I see it on {k}.",
            )
            for k in shard
            for attribute, answer in (("colour", "blue"), ("decor", "dots; hearts"))
        ]
        to_frame(made, CataloguePrediction).write_parquet(stage.folder / f"shard-{number:05d}.parquet")
    stage.finish("predictions", {}, ["shard-00000.parquet", "shard-00001.parquet"])
    return ws
