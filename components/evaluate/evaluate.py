"""Greedy decoding on gold labels: one prediction for each label and stage, and the evaluation of a stage."""

import logging
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from functools import partial
from math import exp
from typing import TYPE_CHECKING

from attrloop.components.catalogue.prompts import Prompt, answer_of, shown, views_of
from attrloop.components.catalogue.records import GoldSplit, Label, Prediction, to_frame
from attrloop.components.catalogue.schema import abstains
from attrloop.components.engines.engine import Decoding
from attrloop.components.errors import fail
from attrloop.components.evaluate.score import score
from attrloop.components.gold.left_out import judged_by, no_gold, omissions
from attrloop.components.gold.sampled import labelled_ids
from attrloop.components.results.evaluation import Evaluation
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.made_from import ASKED, BASE_MODEL, MadeFrom, trained
from attrloop.components.run.manifest import DamagedError, intact, read_manifest, verify
from attrloop.components.run.reporting import reused
from attrloop.components.run.shards import Shards
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.files import write_atomic
from attrloop.components.storage.parquet import read_parquet, write_parquet

if TYPE_CHECKING:
    from attrloop.components.model.vlm import Vlm

_SHARD_BATCHES = 8  # batches of a shard: what a killed task loses at most
VERSION = 1  # of how answers become predictions, and predictions metrics
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """What one view of a listing led to.

    Attributes:
        answer: the canonical answer; None when it is off the list.
        confidence: its probability, in [0, 1].
        text: the chain.
        tokens: length of the chain.
    """

    answer: str | None
    confidence: float
    text: str
    tokens: int


def evaluate(workspace: str, stages: dict[str, str], split: GoldSplit) -> dict[str, Evaluation]:
    """Evaluates stages on a gold split. What was evaluated from the same inputs is reused.

    Args:
        workspace: URI of the run's workspace.
        stages: name of each stage (`base`, `sft`, `iteration-1`, ...) -> path of its adapter in the workspace, "" for
            the base model.
        split: `validation` or `test`.

    Returns:
        The evaluation of each stage, by name.

    Raises:
        InputError: no gold labels in this split, or all of them are left out; an adapter that is not finished, an
            unreadable image.
    """
    ws = Workspace.open(workspace)
    labels = gold_of(ws, split)
    models = Models(ws)
    return {name: _evaluate(models, split, labels, name, adapter) for name, adapter in stages.items()}


def gold_of(ws: Workspace, split: GoldSplit) -> list[Label]:
    """The gold labels of a split that stages are evaluated on.

    Raises:
        InputError: there are none.
    """
    labels = judged_by(ws, split)
    if not labels:
        what, remedy = no_gold(ws, split)
        raise fail(f"{ws.store.root}/{layout.LABELS}", f"there is no gold of split {split!r}: {what}", remedy)
    return labels


class Models:
    """The base model with one adapter at a time. It is loaded when the first stage needs decoding, and not before."""

    def __init__(self, ws: Workspace) -> None:
        self.ws, self.adapter = ws, ""
        self.vlm: Vlm | None = None

    def get(self, adapter: str) -> "Vlm":
        """The model with an adapter of the workspace, "" for none."""
        if self.vlm is None:
            from attrloop.components.model.vlm import Vlm  # torch: not needed where everything is reused

            self.vlm = Vlm.open(self.ws, adapter)
        elif adapter != self.adapter:
            self.vlm.use(self.ws.adapter(adapter))
        self.adapter = adapter
        return self.vlm


def _evaluate(models: Models, split: str, labels: list[Label], name: str, adapter: str) -> Evaluation:
    began, ws = time.monotonic(), models.ws
    artifact = begin(ws, split, name, adapter)
    if artifact.manifest is not None:
        reused(f"the evaluation of {name} on {split}")
        return Evaluation.model_validate_json(intact(ws.store, layout.metrics(split, name)).read_bytes())
    twin = _twin(ws, artifact, split)
    if twin:
        log.info("%s is the same model as %s: its predictions on %s are reused", name, twin, split)
        frame = read_parquet(intact(ws.store, layout.predictions(split, twin)))
    else:
        shards = Shards(artifact, len(labels), _SHARD_BATCHES * ws.config.evaluate.batch_size, "samples", layout.SHARDS)
        title = f"evaluate {name} on {split}"
        shards.make(title, labels, lambda chunk: to_frame(_decode(ws, models.get(adapter), chunk), Prediction))
        frame = shards.read()
    write_parquet(frame, artifact.folder / layout.PREDICTIONS)
    resamples, seed = ws.config.evaluate.bootstrap, ws.config.seed
    evaluation = score(frame, ws.schema, resamples=resamples, seed=seed, stage=name, split=split)
    evaluation = evaluation.model_copy(update={"left_out": omissions(ws).get(split)})
    write_atomic(artifact.folder / layout.METRICS, evaluation.model_dump_json(indent=1).encode())
    counts = {"predictions": frame.height, "seconds": time.monotonic() - began}
    artifact.finish("evaluation", counts, [layout.PREDICTIONS, layout.METRICS])
    ws.store.remove(f"{artifact.path}/{layout.SHARDS}")
    return evaluation


def begin(ws: Workspace, split: str, name: str, adapter: str) -> Artifact:
    """Opens the artifact of a stage's evaluation.

    Raises:
        InputError: the labels, what is left out of them, or the adapter are not finished.
    """
    sources = {"labels": layout.ANNOTATE, "left out": layout.LEFT_OUT, **trained(adapter)}
    made_from = MadeFrom(
        VERSION,
        sources,
        config=(*BASE_MODEL, "prompt", "evaluate"),
        reads=ASKED,
        listings=partial(labelled_ids, split=split),
    )
    return Artifact.begin(ws, layout.evaluation(split, name), made_from)


def _twin(ws: Workspace, artifact: Artifact, split: str) -> str | None:
    """Another stage with a finished evaluation from the same inputs, as an iteration can keep the adapter before it."""
    evaluated = set(map(layout.stage_of_evaluation, ws.store.list(layout.evaluation(split))))
    for stage in sorted(evaluated):
        try:
            manifest = read_manifest(ws.store, layout.evaluation(split, stage))
            if manifest and layout.evaluation(split, stage) != artifact.path:
                verify(ws.store, layout.evaluation(split, stage), manifest)
        except DamagedError:  # it is made again in its turn
            continue
        if manifest and manifest.made_from == artifact.made_from and layout.evaluation(split, stage) != artifact.path:
            return stage
    return None


def _decode(ws: Workspace, vlm: "Vlm", labels: list[Label]) -> list[Prediction]:
    """One prediction per label; its views are decoded together."""
    config, prompts, owners = ws.config.evaluate, [], []
    for k, label in enumerate(labels):
        listing = ws.listings[label.listing]
        text = ws.question(listing, label.attribute)
        for view in views_of(listing, config.views):
            prompts.append(Prompt(text, shown(listing, view)))
            owners.append(k)
    seen: dict[int, list[Seen]] = defaultdict(list)
    for k, (made,) in sorted(vlm.generate(prompts, Decoding(config.max_new_tokens, config.batch_size))):
        label = labels[owners[k]]
        attribute = ws.schema.attribute(ws.listings[label.listing].vertical, label.attribute)
        seen[owners[k]].append(
            Seen(answer_of(made.text, attribute), exp(min(0.0, made.answer_logprob)), made.text, made.tokens)
        )
    return [
        _prediction(label, ws.listings[label.listing].vertical, majority(seen[k])) for k, label in enumerate(labels)
    ]


def _prediction(label: Label, vertical: str, seen: Seen) -> Prediction:
    return Prediction.model_validate(
        {
            "listing": label.listing,
            "vertical": vertical,
            "attribute": label.attribute,
            "split": label.split,
            "gold": label.value,
            **asdict(seen),
        }
    )


def majority(views: list[Seen]) -> Seen:
    """One answer from the views of a listing.

    It is the on-list answer of most views, by summed confidence where views tie. `not_visible` wins only where no view
    saw anything. The confidence is the mean, over all views, of the probability they gave the answer, with 0 for a view
    that answered otherwise. The chain is the most confident one with this answer.
    """
    votes: dict[str, list[Seen]] = defaultdict(list)
    for seen in views:
        if seen.answer is not None:
            votes[seen.answer].append(seen)
    if not votes:
        return max(views, key=lambda seen: seen.confidence)
    winners = max(
        votes.values(),
        key=lambda group: (not abstains(group[0].answer), len(group), sum(seen.confidence for seen in group)),
    )
    best = max(winners, key=lambda seen: seen.confidence)
    return Seen(best.answer, sum(seen.confidence for seen in winners) / len(views), best.text, best.tokens)
