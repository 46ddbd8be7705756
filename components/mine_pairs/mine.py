"""Mines preference pairs and anchors from the chains of an iteration, in two streaming passes.

The first pass reads the chains a batch of shards at a time (a sample never crosses shards), counts votes, and writes
candidate rows and tallies. The second pass needs all tallies, which are small. It applies the gate, the contrast
balance and the caps as cuts per group.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from attrloop.components.catalogue.prompts import completion
from attrloop.components.catalogue.readers import read_labels, read_rows
from attrloop.components.catalogue.records import LABELLED_SOURCES, LOOP_SPLITS, Label, Pair
from attrloop.components.catalogue.vote_kinds import with_kind
from attrloop.components.console import PlainConsole
from attrloop.components.digests import file_digest
from attrloop.components.errors import fail
from attrloop.components.gold.left_out import recorded
from attrloop.components.mine_pairs.arms import Rules, rules_of
from attrloop.components.mine_pairs.balance import cells_of, cuts, kept, limits
from attrloop.components.mine_pairs.candidates import COLUMNS, candidates
from attrloop.components.mine_pairs.consensus_gate import TASK, judge
from attrloop.components.mine_pairs.summary import mean_agreement, report_of, show
from attrloop.components.mine_pairs.support import habits
from attrloop.components.mine_pairs.votes import LABEL_COLUMNS, TALLY, Known, tally, vote
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.made_from import MadeFrom, Source
from attrloop.components.run.manifest import intact, read_manifest
from attrloop.components.run.progress import progress
from attrloop.components.run.reporting import figure, reports, reused
from attrloop.components.run.shards import finished_shards
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage import inputs
from attrloop.components.storage.files import write_atomic
from attrloop.components.storage.parquet import read_parquet, scan_parquet, write_parquet

VERSION = 1  # of the rules by which votes become pairs
BATCH_CHAINS = 100_000  # chains in memory at once, or one shard if it has more; no pair depends on it
_COLUMNS = ["listing", "vertical", "attribute", "view", "chain", "text", "answer"]


@reports("mine-pairs")
def mine(workspace: str, stage: str) -> str:
    """Mines the pairs of an iteration.

    Args:
        workspace: URI of the run's workspace.
        stage: the iteration whose chains are sampled, e.g. `iteration-1`.

    Returns:
        Path in the workspace of `pairs.parquet`, rows of `records.Pair`. It may have no rows; then `report.json` beside
        it says why.

    Raises:
        InputError: the chains or the labels are not finished, or the arm `true_labels` has no usable `mine.truth`.
    """
    started = time.perf_counter()
    ws = Workspace.open(workspace)
    path = layout.pairs(stage)
    out = begin(ws, stage)
    if out.manifest is not None:
        reused(path)
        ws.store.remove(f"{path}/{layout.MINING}")  # still there if a kill came right after `finish`
        return layout.pairs_file(stage)
    rules = rules_of(ws.config.mine)
    batches, tallies = _first_pass(ws, stage, out, rules)
    counts = _second_pass(ws, out, rules, batches, tallies)
    out.finish("pairs", {**counts, "seconds": time.perf_counter() - started}, [layout.PAIRS_FILE, layout.DETAILS])
    ws.store.remove(f"{path}/{layout.MINING}")
    return layout.pairs_file(stage)


def begin(ws: Workspace, stage: str) -> Artifact:
    """Opens the artifact of an iteration's pairs.

    Raises:
        InputError: the chains or the labels are not finished, or the arm `true_labels` has no usable `mine.truth`.
    """
    extra = {"batches": str(BATCH_CHAINS)}
    reads: tuple[Source, ...] = ("prompts", "values")
    if rules_of(ws.config.mine).truth:
        truth = ws.config.mine.truth
        if not truth or not inputs.exists(truth):
            missing = "the arm true_labels needs the true labels of the sampled listings"
            what = f"no such file: {truth!r}" if truth else missing
            raise fail("mine.truth", what, "Give the path of a JSONL file of labels, or choose another arm")
        extra["truth"], reads = file_digest(inputs.local(truth)), (*reads, "catalogue")
    sources = {"chains": layout.chains(stage), "labels": layout.ANNOTATE}
    made_from = MadeFrom(VERSION, sources, {"left out": layout.LEFT_OUT}, ("mine",), reads, extra)
    return Artifact.begin(ws, layout.pairs(stage), made_from)


def _known(ws: Workspace, rules: Rules, shards: list[Path]) -> Known:
    # Labels are canonical already. Checking them against the catalogue would load all of it into memory.
    labels = [label for _, label in read_rows(intact(ws.store, layout.LABELS), Label)]
    out = {
        row.listing for row in recorded(ws.store)
    }  # what was trained on does not tell how often a consensus is right
    usable = [
        (x.listing, x.attribute, x.value, completion(x.rationale, x.value))
        for x in labels
        if x.split in LOOP_SPLITS and x.listing not in out
    ]
    splits = {label.listing: label.split for label in labels}
    truth = (
        [(x.listing, x.attribute, x.value) for x in read_labels(ws.config.mine.truth, ws.schema, ws.listings)]
        if rules.truth
        else []
    )
    text = pl.String
    known_labels = pl.DataFrame(usable, schema=LABEL_COLUMNS, orient="row")
    return Known(
        labels=known_labels,
        splits=pl.DataFrame(list(splits.items()), schema={"listing": text, "split": text}, orient="row"),
        truth=pl.DataFrame(truth, schema={"listing": text, "attribute": text, "target": text}, orient="row"),
        habits=_habits(shards, known_labels) if rules.calibrated and usable else None,
    )


def _habits(shards: list[Path], labels: pl.DataFrame) -> pl.DataFrame:
    """What the model answers on labelled listings. Only their chains are in memory."""
    labelled = (
        scan_parquet(shards)
        .select("listing", "attribute", "view", "answer")
        .join(labels.lazy().select("listing").unique(), on="listing", how="semi")
    )
    return habits(with_kind(labelled.collect(engine="streaming")), labels)


def _batches(shards: list[Path]) -> Iterator[tuple[list[Path], int]]:
    """Neighbouring shards with about `BATCH_CHAINS` chains together, and how many chains these are."""
    batch: list[Path] = []
    chains = 0
    for shard in shards:
        rows = int(scan_parquet(shard).select(pl.len()).collect().item())
        if batch and chains + rows > BATCH_CHAINS:
            yield batch, chains
            batch, chains = [], 0
        batch.append(shard)
        chains += rows
    if batch:
        yield batch, chains


def _first_pass(ws: Workspace, stage: str, out: Artifact, rules: Rules) -> tuple[list[Path], pl.DataFrame]:
    """Writes candidates and tallies batch by batch. Batches that were finished before a kill are not read again.

    Returns:
        The files of candidates, and all tallies added up.
    """
    shards = finished_shards(ws.store, layout.chains(stage))
    known, config = _known(ws, rules, shards), ws.config.mine
    (out.folder / layout.MINING).mkdir(exist_ok=True)
    files, tallies = [], []
    manifest = read_manifest(ws.store, layout.chains(stage))
    total = int(manifest.counts.get("chains", 0)) if manifest else 0
    with progress("mining", total or None, "chains") as bar:
        for k, (batch, size) in enumerate(_batches(shards)):
            rows, counted = (out.folder / layout.MINING / f"{k:05d}.{kind}.parquet" for kind in ("candidates", "tally"))
            if not all(out.kept(f"{layout.MINING}/{file.name}") for file in (rows, counted)):
                chains, samples = vote(read_parquet(batch, columns=_COLUMNS), known, config, rules, ws.config.seed)
                write_parquet(candidates(chains, samples, rules, config.pairs_per_sample), rows)
                write_parquet(tally(samples), counted)
                out.keep(f"{layout.MINING}/{rows.name}")
                out.keep(f"{layout.MINING}/{counted.name}")
            files.append(rows)
            tallies.append(read_parquet(counted))
            bar.advance(size)
    nothing = {name: pl.String for name in TALLY} | {"bin": pl.Int64, "right": pl.Boolean, "count": pl.Int64}
    counts = pl.concat([pl.DataFrame(schema=nothing), *tallies]).group_by(TALLY).agg(pl.col("count").sum()).sort(TALLY)
    return files, counts


def _second_pass(
    ws: Workspace, out: Artifact, rules: Rules, files: list[Path], tallies: pl.DataFrame
) -> dict[str, float]:
    """Writes pairs and report, and returns what the manifest counts."""
    config = ws.config.mine
    gate = judge(tallies, config, rules.gate)
    closed = gate.filter(~pl.col("open")).select(*TASK, closed=pl.lit(True))
    rows = scan_parquet(files) if files else pl.LazyFrame(schema=COLUMNS)
    passed = rows.join(closed.lazy(), on=TASK, how="left", maintain_order="left").filter(
        pl.col("closed").is_null() | pl.col("source").is_in(LABELLED_SOURCES)
    )
    cells = cells_of(rows)
    opened = cells_of(passed)
    table = cuts(passed, opened, limits(opened, config, rules))
    target = out.folder / layout.PAIRS_FILE
    write_parquet(kept(passed, table).select(list(Pair.model_fields)), target, row_group_size=BATCH_CHAINS)
    report = report_of(tallies, cells, cells_of(scan_parquet(target)), gate, config)
    write_atomic(out.folder / layout.DETAILS, json.dumps(report, indent=1, ensure_ascii=False).encode())
    figure("agreement", mean_agreement(tallies))
    show(report, PlainConsole())
    return {**report["rows"], "samples": float(tallies["count"].sum())}
