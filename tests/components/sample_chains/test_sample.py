"""A killed sampling ends as an undisturbed one; listings that cannot be read are skipped, counted and capped."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from attrloop.components.engines.chains import chains_per_view
from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.mine_pairs.mine import mine
from attrloop.components.run.events import Figure, read_events
from attrloop.components.run.manifest import read_manifest
from attrloop.components.run.workspace import Workspace
from attrloop.components.sample_chains.sample import sample, share_out
from attrloop.components.sft.train import ADAPTER
from attrloop.components.storage.opening import open_store
from tests.small import change_config
from tests.tiny import ARCHITECTURES

STAGE = "iteration-1"


def chains(workspace: Path, stage: str = STAGE) -> pl.DataFrame:
    """All chains, in a canonical order."""
    keys = ["listing", "attribute", "view", "chain"]
    return pl.read_parquet(workspace / stage / "chains" / "shard-*.parquet").sort(keys)


def shards(workspace: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (workspace / STAGE / "chains").glob("shard-*.parquet")}


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_every_listing_that_is_no_test_gold_gets_its_chains_over_its_views(
    copy_of: Callable[[str], Path], architecture: str
) -> None:
    workspace = copy_of(architecture)
    assert sample(str(workspace), STAGE, ADAPTER) == f"{STAGE}/chains"
    made = chains(workspace)
    per_view = made.group_by("listing", "attribute", "view").len()
    assert per_view.height == 20 * 2 and set(per_view.rows()) >= {("mug-0", "colour", 0, 2), ("mug-0", "colour", 1, 1)}
    assert made["answer"].drop_nulls().is_in(["red", "green", "blue", "not_visible"]).all()
    assert made["answer"].null_count() < 0.9 * made.height, "SFT has taught the form of an answer"
    assert (made["logprob"] < 0).all() and made["tokens"].is_between(1, 16).all()
    assert made.group_by("listing").agg(pl.col("text").n_unique() > 1)["text"].any()
    manifest = read_manifest(Workspace.open(str(workspace)).store, f"{STAGE}/chains")
    assert (
        manifest is not None
        and manifest.counts["listings"] == 20
        and manifest.counts["skipped"] == 0
        and manifest.counts["shards"] == 5
    )
    event = read_events(open_store(workspace))[-1]
    answered = 1 - made["answer"].null_count() / made.height
    assert event.figure and event.figure == Figure(name="answered", value=round(answered, 4))


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_a_killed_sampling_goes_on_to_the_same_files(
    copy_of: Callable[[str], Path], tmp_path: Path, architecture: str
) -> None:
    undisturbed, killed = copy_of(architecture), tmp_path / "killed"
    shutil.copytree(undisturbed, killed)
    sample(str(undisturbed), STAGE, ADAPTER)
    shutil.copytree(undisturbed / STAGE, killed / STAGE)
    folder = killed / STAGE / "chains"
    (folder / "manifest.json").unlink()
    for lost in ("shard-00001.parquet", "shard-00004.parquet"):
        (folder / lost).unlink()
    (folder / ".tmp-shard-00001.parquet").write_bytes(b"half")
    kept = {file: file.stat().st_mtime_ns for file in folder.glob("shard-*.parquet")}
    sample(str(killed), STAGE, ADAPTER)
    assert shards(killed) == shards(undisturbed) and len(shards(killed)) == 5
    assert {file: file.stat().st_mtime_ns for file in kept} == kept, "finished shards are not sampled again"


def test_any_number_of_workers_makes_the_same_files_and_the_same_pairs(
    copy_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """Whatever worker comes first, and when one has been killed and comes again."""
    alone = copy_of("qwen2_5_vl")
    sample(str(alone), STAGE, ADAPTER)
    for wanted, shares in ((2, ["1/2", "2/2"]), (9, ["1/5", "2/5", "3/5", "4/5", "5/5"])):
        many = tmp_path / f"by-{wanted}"
        shutil.copytree(alone, many, ignore=shutil.ignore_patterns(STAGE, "cache"))
        assert share_out(str(many), STAGE, ADAPTER, wanted) == shares, "no worker without a shard"
        for share in reversed(shares):
            assert read_manifest(Workspace.open(str(many)).store, f"{STAGE}/chains") is None
            sample(str(many), STAGE, ADAPTER, share)
            if share == shares[-1]:
                (many / STAGE / "chains" / f"shard-{len(shares) - 1:05d}.parquet").unlink()
        sample(str(many), STAGE, ADAPTER, shares[-1])
        assert shards(many) == shards(alone)
        one, other = (read_manifest(Workspace.open(str(run)).store, f"{STAGE}/chains") for run in (many, alone))
        assert one and other and one.digest == other.digest
        pairs = [Workspace.open(str(run)).store.file(mine(str(run), STAGE)).read_bytes() for run in (many, alone)]
        assert pairs[0] == pairs[1]


def test_sharing_out_is_reported_only_when_it_fails(copy_of: Callable[[str], Path]) -> None:
    workspace = copy_of("qwen2_5_vl")
    before = len(read_events(open_store(workspace)))
    share_out(str(workspace), STAGE, ADAPTER, 2)
    (workspace / "annotate" / "labels.jsonl").unlink()
    with pytest.raises(InputError, match=r"labels\.jsonl is missing"):
        share_out(str(workspace), STAGE, ADAPTER, 2)
    assert [event.label for event in read_events(open_store(workspace))[before:]] == [f"{STAGE} share-out"]


def test_a_workspace_that_does_not_exist_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        sample(str(tmp_path / "typo"), STAGE, ADAPTER)
    assert not (tmp_path / "typo").exists()


def test_sampling_begins_anew_before_it_is_shared_out(copy_of: Callable[[str], Path]) -> None:
    """Workers that start at once and find chains of another adapter would remove what the others have made."""
    workspace = copy_of("qwen2_5_vl")
    sample(str(workspace), STAGE, ADAPTER)
    assert share_out(str(workspace), STAGE, ADAPTER, 2) == ["1/2", "2/2"] and len(shards(workspace)) == 5, (
        "the same adapter's are kept"
    )
    share_out(str(workspace), STAGE, "", 2)
    assert shards(workspace) == {}


@pytest.mark.parametrize("share", ["", "2", "0/2", "3/2", "a/b"])
def test_what_is_no_share_is_refused(copy_of: Callable[[str], Path], share: str) -> None:
    with pytest.raises(InputError, match="not a share of the work"):
        sample(str(copy_of("qwen2_5_vl")), STAGE, ADAPTER, share)


def test_chains_do_not_depend_on_shards_and_batches(copy_of: Callable[[str], Path], tmp_path: Path) -> None:
    workspace, other = copy_of("qwen2_5_vl"), tmp_path / "other"
    shutil.copytree(workspace, other)
    change_config(other, sample={"shard_size": 7, "batch_size": 2})
    for path in (workspace, other):
        sample(str(path), STAGE, ADAPTER)
    one, two = chains(workspace), chains(other)
    assert one.drop("logprob").equals(two.drop("logprob"))
    assert one["logprob"].to_list() == pytest.approx(two["logprob"].to_list(), abs=1e-3)


def test_a_finished_sampling_is_reused_and_another_adapter_is_sampled_anew(copy_of: Callable[[str], Path]) -> None:
    workspace = copy_of("qwen2_5_vl")
    sample(str(workspace), STAGE, ADAPTER)
    first, times = chains(workspace), {file: file.stat().st_mtime_ns for file in (workspace / STAGE).rglob("*")}
    sample(str(workspace), STAGE, ADAPTER)
    assert {file: file.stat().st_mtime_ns for file in (workspace / STAGE).rglob("*")} == times
    sample(str(workspace), STAGE, "")
    assert chains(workspace)["text"].to_list() != first["text"].to_list()
    sample(str(workspace), "iteration-2", ADAPTER)
    assert chains(workspace, "iteration-2")["text"].to_list() != first["text"].to_list(), (
        "iterations have random numbers of their own"
    )


def damage(catalogue: Path, *names: str) -> None:
    for name in names:
        (catalogue / name).write_bytes((catalogue / name).read_bytes()[:60])


@pytest.fixture
def own(trained: Callable[[str], Path], tmp_path: Path) -> Path:
    """The folder of a workspace with a catalogue of its own, whose images may be damaged."""
    shutil.copytree(trained("qwen2_5_vl"), tmp_path / "own")
    paths = {
        key: str(tmp_path / "own" / name)
        for key, name in (("catalogue_schema", "schema.yaml"), ("listings", "listings.jsonl"))
    }
    change_config(tmp_path / "own" / "run", data=paths)
    return tmp_path / "own"


def test_a_listing_that_cannot_be_read_is_skipped_and_counted(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    sample(str(own / "run"), STAGE, ADAPTER)
    whole = chains(own / "run")
    shutil.rmtree(own / "run" / STAGE)
    damage(own, "mug-7-1.png")
    (own / "shirt-9-0.png").unlink()
    change_config(own / "run", data={"max_bad_images": 0.1})
    sample(str(own / "run"), STAGE, ADAPTER)
    rest = whole.filter(~pl.col("listing").is_in(["mug-7", "shirt-9"]))
    assert chains(own / "run").drop("logprob").equals(rest.drop("logprob")), "the others keep their chains"
    manifest = read_manifest(Workspace.open(str(own / "run")).store, f"{STAGE}/chains")
    assert manifest is not None and manifest.counts["skipped"] == 2 and manifest.counts["listings"] == 18
    assert "skipping listing mug-7" in caplog.text and "skipping listing shirt-9" in caplog.text


def test_too_many_listings_that_cannot_be_read_stop_the_run(own: Path) -> None:
    change_config(own / "run", data={"max_bad_images": 0.1})
    damage(own, "mug-7-1.png", "mug-8-1.png", "shirt-9-0.png")
    with pytest.raises(
        AttrloopError, match=r"3 of 20 listings have images that cannot be read.*raise data.max_bad_images"
    ):
        sample(str(own / "run"), STAGE, ADAPTER)
    assert read_manifest(Workspace.open(str(own / "run")).store, f"{STAGE}/chains") is None


def test_unlabelled_listings_are_bounded_and_drawn_by_seed(copy_of: Callable[[str], Path]) -> None:
    workspace = copy_of("qwen2_5_vl")
    labelled = {f"{vertical}-{k}" for vertical in ("mug", "shirt") for k in range(6)}
    drawn = []
    for seed in (0, 0, 1, 2):
        change_config(workspace, sample={"max_listings": 3, "chains": 1, "max_new_tokens": 2})
        raw = json.loads((workspace / "config.json").read_text())
        (workspace / "config.json").write_text(json.dumps(raw | {"seed": seed}))
        sample(str(workspace), STAGE, ADAPTER)
        drawn.append(set(chains(workspace)["listing"]) - labelled)
    assert [len(listings) for listings in drawn] == [3, 3, 3, 3]
    assert drawn[0] == drawn[1] and len({frozenset(listings) for listings in drawn}) > 1


@pytest.mark.parametrize(("count", "views", "wanted"), [(8, 4, [2, 2, 2, 2]), (7, 3, [3, 2, 2]), (2, 3, [1, 1, 0])])
def test_chains_are_spread_evenly_over_views(count: int, views: int, wanted: list[int]) -> None:
    assert chains_per_view(count, views) == wanted
