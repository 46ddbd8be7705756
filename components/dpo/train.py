"""DPO from the previous adapter, with the previous adapter as the reference. See trainer.py for the training itself."""

import logging
import time

import polars as pl

from attrloop.components.catalogue.records import Pair
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact, read_manifest
from attrloop.components.run.reporting import reports, reused
from attrloop.components.run.workspace import Workspace

log = logging.getLogger(__name__)


@reports("dpo")
def train(workspace: str, stage: str, adapter: str) -> str:
    """Trains the adapter of one iteration, or reuses it if it was trained from the same inputs.

    Args:
        workspace: URI of the run's workspace.
        stage: `iteration-<k>`; reads its pairs, writes `<stage>/dpo/adapter/` and `<stage>/dpo/metrics.jsonl`.
        adapter: path of the previous adapter, which is where training starts and the reference.

    Returns:
        The new adapter's path; `adapter` itself when there are no pairs.

    Raises:
        AttrloopError: see `trainer.fit`.
    """
    started, ws = time.monotonic(), Workspace.open(workspace)
    sources = {"pairs": layout.pairs(stage), "adapter": layout.trained_by(adapter)}
    manifests = {name: read_manifest(ws.store, path) for name, path in sources.items()}
    made_from = {name: manifest.digest if manifest else "" for name, manifest in manifests.items()}
    made_from |= {"config": ws.config.digest("model", "prompt", "dpo"), "data": ws.data_digest}
    artifact = Artifact(ws.store, layout.training(stage), made_from)
    if artifact.manifest is not None:
        reused(layout.adapter(stage))
        ws.store.remove(layout.checkpoints(stage))  # left by a kill between finishing and tidying
        return layout.adapter(stage) if artifact.manifest.counts["rows"] else adapter
    frame = pl.read_parquet(ws.store.file(layout.pairs_file(stage)))
    pairs = [Pair(**row) for row in frame.iter_rows(named=True)]
    if not pairs:
        log.warning("%s has no pairs: the adapter stays as it is", stage)
        artifact.finish("adapter", {"rows": 0, "seconds": 0}, [])
        return adapter
    from attrloop.components.dpo.trainer import fit  # torch: not needed if everything is reused
    from attrloop.components.model.processes import processes_for, spread

    spread(fit, processes_for(ws.config.dpo.batch_size), ws, artifact, adapter, pairs)
    anchors = sum(pair.rejected is None for pair in pairs)
    counts = {"rows": len(pairs), "anchors": anchors, "seconds": time.monotonic() - started}
    artifact.finish("adapter", counts, [layout.ADAPTER, layout.TRAINING_CURVE])
    ws.store.remove(layout.checkpoints(stage))
    return layout.adapter(stage)
