import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from attrloop.components.catalogue.records import Chain, Label, to_frame
from attrloop.components.gold.left_out import LeftOut
from attrloop.components.mine_pairs.mine import mine
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from tests.bench.chains import STAGE, finish, workspace
from tests.components.mine_pairs.samples import EASY, Mined


@pytest.fixture
def mined(tmp_path: Path) -> Mined:
    """Mines samples: the pairs and the report."""

    def run(
        samples: list[list[Chain]], labels: list[Label] | None = None, left_out: Sequence[LeftOut] = (), **config: Any
    ) -> tuple[pl.DataFrame, dict[str, Any]]:
        ws = workspace(tmp_path, **(EASY | config))
        finish(ws, [to_frame([row for rows in samples for row in rows], Chain)], labels or [])
        if left_out:
            artifact = Artifact(ws.store, layout.LEFT_OUT, {})
            lines = [row.model_dump_json() for row in left_out]
            (artifact.folder / layout.LISTINGS_FILE).write_text("\n".join(lines))
            artifact.finish("left-out", {}, [layout.LISTINGS_FILE])
        pairs = pl.read_parquet(Path(ws.store.root, mine(ws.store.root, STAGE)))
        return pairs, json.loads(ws.store.read(f"{STAGE}/pairs/report.json"))

    return run
