"""DPO from the previous adapter, with the previous adapter as the reference: the stage's inputs and outputs (see trainer.py for the training)."""

import logging
import time

import polars as pl

from attrloop.components.catalogue.records import Pair
from attrloop.components.run.artifact import Artifact, read_manifest
from attrloop.components.run.reporting import reports, reused
from attrloop.components.run.workspace import Workspace

log = logging.getLogger(__name__)


@reports("dpo")
def train(workspace: str, stage: str, adapter: str) -> str:
    """Trains one iteration's adapter; what is trained already from the same inputs is reused.

    Args:
        workspace: URI of the run's workspace.
        stage: `iteration-<k>`; reads its pairs, writes `<stage>/dpo/adapter/` and `<stage>/dpo/metrics.jsonl`.
        adapter: path of the previous adapter: where training starts, and the reference.

    Returns:
        The new adapter's path; `adapter` itself when there are no pairs.

    Raises:
        AttrloopError: see `trainer.fit`.
    """
    ws = Workspace.open(workspace)
    upstream = {
        name: read_manifest(ws.store, path)
        for name, path in (("pairs", f"{stage}/pairs"), ("adapter", adapter.removesuffix("/adapter")))
    }
    made_from = {name: manifest.digest if manifest else "" for name, manifest in upstream.items()}
    output = Artifact(
        ws.store,
        f"{stage}/dpo",
        made_from | {"config": ws.config.digest("model", "prompt", "dpo"), "data": ws.data_digest},
    )
    path = f"{stage}/dpo/adapter"
    if output.manifest is not None:
        reused(path)
        ws.store.remove(f"{output.path}/checkpoints")  # a kill between finishing and tidying leaves them
        return path if output.manifest.counts["rows"] else adapter
    started = time.monotonic()
    pairs = [
        Pair(**row) for row in pl.read_parquet(ws.store.file(f"{stage}/pairs/pairs.parquet")).iter_rows(named=True)
    ]
    if not pairs:
        log.warning("%s has no pairs: the adapter stays as it is", stage)
        output.finish("adapter", {"rows": 0, "seconds": 0}, [])
        return adapter
    from attrloop.components.dpo.trainer import fit  # torch: not needed where everything is reused
    from attrloop.components.model.processes import processes_for, spread

    spread(fit, processes_for(ws.config.dpo.batch_size), ws, output, adapter, pairs)
    counts = {
        "rows": len(pairs),
        "anchors": sum(pair.rejected is None for pair in pairs),
        "seconds": time.monotonic() - started,
    }
    output.finish("adapter", counts, ["adapter", "metrics.jsonl"])
    ws.store.remove(f"{output.path}/checkpoints")
    return path
