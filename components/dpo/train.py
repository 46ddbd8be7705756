"""DPO from the previous adapter, with the previous adapter as the reference. See trainer.py for the training itself."""

import logging
import time

from attrloop.components.catalogue.records import Pair
from attrloop.components.gold.learnt import learnt_by_iteration, write_learnt
from attrloop.components.gold.sampled import sampled_ids
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.made_from import ASKED, BASE_MODEL, MadeFrom, trained
from attrloop.components.run.manifest import intact
from attrloop.components.run.reporting import reports, reused
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.parquet import read_parquet

VERSION = 1  # of the training
log = logging.getLogger(__name__)


@reports("dpo")
def train(workspace: str, stage: str, adapter: str) -> str:
    """Trains the adapter of one iteration, or reuses it if it was trained from the same inputs.

    Args:
        workspace: URI of the run's workspace.
        stage: `iteration-<k>`; reads its pairs, writes `<stage>/dpo/adapter/`, `<stage>/dpo/learnt.parquet` and
            `<stage>/dpo/metrics.jsonl`.
        adapter: path of the previous adapter, which is where training starts and the reference.

    Returns:
        The new adapter's path; `adapter` itself when there are no pairs.

    Raises:
        AttrloopError: see `trainer.fit`.
    """
    started, ws = time.monotonic(), Workspace.open(workspace)
    artifact = begin(ws, stage, adapter)
    if artifact.manifest is not None:
        reused(layout.adapter(stage))
        ws.store.remove(layout.checkpoints(stage))  # left by a kill between finishing and tidying
        return layout.adapter(stage) if artifact.manifest.counts["rows"] else adapter
    frame = read_parquet(intact(ws.store, layout.pairs_file(stage)))
    pairs = [Pair(**row) for row in frame.iter_rows(named=True)]
    if not pairs:
        log.warning("%s has no pairs: the adapter stays as it is", stage)
        artifact.finish("adapter", {"rows": 0, "seconds": 0}, [])
        return adapter
    from attrloop.components.dpo.trainer import fit  # torch: not needed if everything is reused
    from attrloop.components.model.processes import processes_for, spread

    spread(fit, processes_for(ws.config.dpo.batch_size), ws, artifact, adapter, pairs)
    write_learnt(ws, artifact.folder / layout.LEARNT, learnt_by_iteration(ws), source=adapter)
    anchors = sum(pair.rejected is None for pair in pairs)
    counts = {"rows": len(pairs), "anchors": anchors, "seconds": time.monotonic() - started}
    artifact.finish("adapter", counts, [layout.ADAPTER, layout.LEARNT, layout.TRAINING_CURVE])
    ws.store.remove(layout.checkpoints(stage))
    return layout.adapter(stage)


def begin(ws: Workspace, stage: str, adapter: str) -> Artifact:
    """Opens the artifact of an iteration's training.

    Raises:
        InputError: the pairs or the adapter are not finished.
    """
    sources = {"pairs": layout.pairs(stage), **trained(adapter)}
    made_from = MadeFrom(VERSION, sources, config=(*BASE_MODEL, "prompt", "dpo"), reads=ASKED, listings=sampled_ids)
    return Artifact.begin(ws, layout.training(stage), made_from)
