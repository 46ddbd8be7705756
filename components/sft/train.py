"""Supervised fine-tuning: LoRA on 'rationale + answer' targets. See trainer.py for the training itself."""

import logging
import time
from functools import partial

from attrloop.components.catalogue import prompts
from attrloop.components.catalogue.prompts import Prompt
from attrloop.components.engines.lengths import token_counts
from attrloop.components.errors import AttrloopError
from attrloop.components.gold.learnt import learnt_by_labels, write_learnt
from attrloop.components.gold.sampled import labelled_ids
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.made_from import ASKED, MadeFrom
from attrloop.components.run.reporting import reports, reused
from attrloop.components.run.workspace import Workspace

log = logging.getLogger(__name__)
VERSION = 1  # of the training
ADAPTER = layout.adapter(layout.SFT)


@reports("sft")
def train(workspace: str) -> str:
    """Trains the first adapter. A killed run goes on from its last checkpoint.

    Args:
        workspace: URI of the run's workspace; reads the train labels, writes `sft/adapter/`, `sft/learnt.parquet` and
            `sft/metrics.jsonl`.

    Returns:
        The adapter's path in the workspace.

    Raises:
        AttrloopError: no training labels, or see `trainer.fit`.
    """
    started, ws = time.monotonic(), Workspace.open(workspace)
    artifact = begin(ws)
    if artifact.manifest is not None:
        reused(ADAPTER)
        ws.store.remove(layout.checkpoints(layout.SFT))  # left by a kill between finishing and tidying
        return ADAPTER
    rows = training_rows(ws)
    if not rows:
        remedy = "Raise annotate.train_per_vertical or give data.labels"
        raise AttrloopError(f"There are no labels in the train split. {remedy}.")
    warn_of_long_targets(ws, rows)
    from attrloop.components.model.processes import processes_for, spread
    from attrloop.components.sft.trainer import fit  # torch: not needed if everything is reused

    spread(fit, processes_for(ws.config.sft.batch_size), ws, artifact, rows)
    write_learnt(ws, artifact.folder / layout.LEARNT, learnt_by_labels(ws))
    counts = {"rows": len(rows), "seconds": time.monotonic() - started}
    artifact.finish("adapter", counts, [layout.ADAPTER, layout.LEARNT, layout.TRAINING_CURVE])
    ws.store.remove(layout.checkpoints(layout.SFT))
    return ADAPTER


def begin(ws: Workspace) -> Artifact:
    """Opens the artifact of the first training.

    Raises:
        InputError: the labels are not finished.
    """
    made_from = MadeFrom(
        VERSION,
        {"labels": layout.ANNOTATE},
        config=("model", "prompt", "sft"),
        reads=ASKED,
        listings=partial(labelled_ids, split="train"),
    )
    return Artifact.begin(ws, layout.training(layout.SFT), made_from)


def warn_of_long_targets(ws: Workspace, rows: list[tuple[Prompt, str]]) -> None:
    """Says how many targets no chain may be as long as. Preflight has not seen what the annotator wrote."""
    base, most = ws.config.model, min(ws.config.sample.max_new_tokens, ws.config.evaluate.max_new_tokens)
    counts = token_counts(base.base, base.revision, [target for _, target in rows]) or [0]
    if max(counts) > most:
        many, longest = sum(count > most for count in counts), rows[counts.index(max(counts))][1]
        what = f"{many} of {len(rows)} targets have more than {most} tokens, and the model's chains would be cut off"
        remedy = f"Set sample.max_new_tokens and evaluate.max_new_tokens to at least {max(counts)}"
        log.warning("%s. %s. The longest: %s", what, remedy, longest)


def training_rows(ws: Workspace) -> list[tuple[Prompt, str]]:
    """(prompt, target text) for every training label and view, in the labels' order."""
    rows = []
    for label in ws.labels("train"):
        listing = ws.listings[label.listing]
        text = ws.question(listing, label.attribute)
        target = prompts.completion(label.rationale, label.value)
        rows += [
            (Prompt(text, prompts.shown(listing, view)), target)
            for view in prompts.views_of(listing, ws.config.sft.views)
        ]
    return rows
