"""The groups of listings that share photographs, and what is remembered of them."""

import os
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
import yaml

from attrloop.components.annotate.annotate import annotate
from attrloop.components.catalogue.images import ImageReader
from attrloop.components.gold.learnt import Learnt, write_learnt
from attrloop.components.gold.left_out import learnt_from
from attrloop.components.gold.splits import make_splits, photographs_of, splits_of
from attrloop.components.gold.survey import survey
from attrloop.components.run.workspace import Workspace
from attrloop.components.sft.train import begin
from attrloop.components.storage import inputs
from tests.components.gold.shop import Shop
from tests.emulator import upload
from tests.http_server import QuietHandler, serving
from tests.photographs import COPIES, encoded, photograph


@pytest.fixture
def shop(tmp_path) -> Shop:
    shop = Shop(tmp_path / "shop")
    shop.add(*(f"mug-{k}" for k in range(20)))
    return shop


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The photographs that are decoded."""
    names: list[str] = []
    original = ImageReader.open

    def spied(self, reference, *rest):
        names.append(reference)
        return original(self, reference, *rest)

    monkeypatch.setattr(ImageReader, "open", spied)
    return names


def test_twenty_variants_that_share_a_photograph_are_one_group_with_one_split(shop, tmp_path):
    sizes = [f"shirt-{size}" for size in range(20)]
    shop.add(*sizes, pictures=[shop.picture(1)])
    splits = make_splits(shop.run(tmp_path / "runs"))
    assert len({splits.group[size] for size in sizes}) == len({splits.of[size] for size in sizes}) == 1
    assert len({splits.group[f"mug-{k}"] for k in range(20)}) == 20


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_of_a_photograph_joins_its_group(shop, tmp_path, copy):
    shop.add("new", pictures=[shop.picture(2), shop.picture(3, copy)])
    shop.add("old", pictures=[shop.picture(3)])
    splits = make_splits(shop.run(tmp_path / "runs"))
    assert splits.group["new"] == splits.group["old"]


def test_copies_have_a_key_in_common_which_stays_when_others_come(shop, tmp_path):
    shop.add("first", pictures=[shop.picture(3)])
    before = photographs_of(shop.run(tmp_path / "runs"))
    for copy in ("jpeg-70", "webp", "half", "avif", "double"):
        shop.add(copy, pictures=[shop.picture(3, copy)])
    after = photographs_of(shop.run(tmp_path / "runs", "second"))
    keys = {row["listing"]: row["key"] for row in after.iter_rows(named=True)}
    own = {row["listing"]: row["key"] for row in before.iter_rows(named=True)}
    assert {keys[copy] for copy in ("jpeg-70", "webp", "half", "avif", "double")} == {own["first"]} == {keys["first"]}


def test_a_variant_of_a_listing_that_is_sold_out_gets_its_split(tmp_path):
    for number in range(6):
        shop = Shop(tmp_path / f"shop-{number}")
        shop.add("sold", pictures=[shop.picture(2 * number), shop.picture(2 * number + 1)])
        was = make_splits(shop.run(tmp_path / f"runs-{number}")).of["sold"]
        shop.listings.clear()
        shop.add("again", pictures=[shop.picture(2 * number + 1, "webp")])
        assert make_splits(shop.run(tmp_path / f"runs-{number}", "later")).of["again"] == was


def test_a_photograph_that_very_many_show_joins_nobody(shop, tmp_path):
    for count in (50, 51):
        shop.add(f"new-{count}", *(f"new-{k}" for k in range(count - 1)), pictures=[shop.picture(5)])
        splits = make_splits(shop.run(tmp_path / f"runs-{count}"))
        assert len({splits.group[listing] for listing in shop.listings}) == (21 if count == 50 else 71), count
        del shop.listings[f"new-{count}"]
    assert {"train", "validation", "test"} == {splits.of[f"new-{k}"] for k in range(50)}


def test_gold_that_shows_the_placeholder_of_an_ancestors_listings_judges(shop, tmp_path):
    shop.add(*(f"learnt-{k}" for k in range(60)), "gold", pictures=[shop.picture(5)])
    shop.labels = [{"listing": "gold", "attribute": "lid", "value": "yes", "split": "test"}]
    ws = shop.run(tmp_path / "runs")
    write_learnt(ws, tmp_path / "learnt.parquet", {"trained": {f"learnt-{k}" for k in range(60)}, "chosen": set()})
    assert not learnt_from(ws, "test", ["gold"], Learnt.read(tmp_path / "learnt.parquet"))
    assert not splits_of(ws).mixed


def test_a_placeholder_that_is_taken_out_joins_nobody_any_more(shop, tmp_path):
    for k in range(30):
        shop.add(f"new-{k}", pictures=[shop.picture(5), shop.picture(600 + k)])
    before = make_splits(shop.run(tmp_path / "runs"))
    assert len({before.of[f"new-{k}"] for k in range(30)}) == 1
    for k in range(30):
        shop.listings[f"new-{k}"] = [shop.picture(600 + k)]
    shop.add(*(f"later-{k}" for k in range(20)), pictures=[shop.picture(5)])
    after = make_splits(shop.run(tmp_path / "runs", "second"))
    assert len({after.group[f"new-{k}"] for k in range(30)}) == 30
    assert before.of.items() <= after.of.items()
    del shop.listings["new-0"]  # sold out: what it showed last counts, not the placeholder
    shop.add("again", pictures=[shop.picture(600)])
    third = make_splits(shop.run(tmp_path / "runs", "third"))
    assert third.group["again"] != third.group["later-0"] and third.of["again"] == before.of["new-0"]


def test_gold_is_mixed_no_more_when_the_listing_between_is_gone(shop, tmp_path):
    for number, (listing, split) in enumerate({"taught": "train", "judged": "test"}.items()):
        shop.add(listing, pictures=[shop.picture(number)])
        shop.labels.append({"listing": listing, "attribute": "lid", "value": "yes", "split": split})
    shop.add("bridge", pictures=[shop.picture(0), shop.picture(1)])
    assert dict(make_splits(shop.run(tmp_path / "runs")).mixed) == {"judged": "taught"}
    del shop.listings["bridge"]
    assert not make_splits(shop.run(tmp_path / "runs", "second")).mixed


def test_only_new_and_replaced_photographs_are_read_again(shop, tmp_path, read):
    make_splits(shop.run(tmp_path / "runs"))
    assert len(read) == 20
    read.clear()
    make_splits(shop.run(tmp_path / "runs", "second"))
    assert read == []
    shop.add("new")
    name = shop.listings["mug-3"][0]
    (shop.folder / name).write_bytes((shop.folder / shop.picture(77)).read_bytes())
    make_splits(shop.run(tmp_path / "runs", "third"))
    assert sorted(read) == sorted([name, *shop.listings["new"]])


def test_buckets_are_asked_about_many_photographs_at_once_and_nothing_stays_in_memory(
    shop, tmp_path, bucket, faulty, monkeypatch
):
    opened: list[int] = []
    monkeypatch.setattr(inputs, "_seen", {})
    monkeypatch.setattr(inputs, "ThreadPoolExecutor", lambda most: opened.append(most) or ThreadPoolExecutor(most))
    shop.run(tmp_path / "runs")
    upload(shop.folder, f"{bucket}/shop")
    for name in ("first", "second"):
        ws = shop.run(tmp_path / "runs", name, data={"listings": f"{bucket}/shop/listings.jsonl"})
        assert len(ws.listings) == 20
        faulty.seen.clear()
        opened.clear()
        found = survey(ws.config, ws.store.root, ws.listings, {})
        assert found.photographs.height == 20
        asked = [path for method, path in faulty.seen if "img" in path and not faulty.is_download(method, path)]
        assert len(asked) == 20 and len(opened) <= 2, "one to look, one to fetch"
        assert not [uri for uri in inputs._seen if uri.endswith(".img")]
    assert len(faulty.downloads()) == 0, "none is read again"


def test_a_killed_survey_reads_nothing_twice(shop, tmp_path, read):
    ws = shop.run(tmp_path / "runs")
    survey(ws.config, ws.store.root, ws.listings, {})  # killed before the splits are remembered
    read.clear()
    make_splits(ws)
    assert read == []


def test_a_photograph_that_is_replaced_under_its_name_changes_the_digest_and_no_split(shop, tmp_path):
    ws = shop.run(tmp_path / "runs")
    before, path = survey(ws.config, ws.store.root, ws.listings, {}), shop.folder / shop.listings["mug-3"][0]
    before.remember()
    same = os.stat(path)
    new = (shop.folder / shop.picture(77)).read_bytes()
    path.write_bytes(new[: same.st_size].ljust(same.st_size, b"\0"))
    os.utime(path, ns=(same.st_atime_ns, same.st_mtime_ns))  # of the same size, and dated back
    after = survey(ws.config, ws.store.root, ws.listings, {})
    assert after.digest != before.digest
    assert after.splits.of == before.splits.of


def test_a_photograph_that_cannot_be_read_for_once_changes_nothing(shop, tmp_path):
    ws = shop.run(tmp_path / "runs")
    before, path = survey(ws.config, ws.store.root, ws.listings, {}), shop.folder / shop.listings["mug-3"][0]
    before.remember()
    path.rename(path.with_suffix(".away"))
    after = survey(ws.config, ws.store.root, ws.listings, {})
    assert (after.digest, after.splits) == (before.digest, before.splits)


def test_a_photograph_that_can_be_read_at_last_begins_no_training_on_others_anew(shop, tmp_path):
    splits = make_splits(shop.run(tmp_path / "elsewhere")).of
    taught, reserved = (next(key for key, split in splits.items() if split == name) for name in ("train", "test"))
    shop.labels = [{"listing": taught, "attribute": "lid", "value": "yes"}]
    ws = shop.run(tmp_path / "runs", annotate={"max_calls": 0})
    mug = {"attributes": {"lid": {"values": ["yes", "no"]}}}
    (shop.folder / "schema.yaml").write_text(yaml.safe_dump({"verticals": {"mug": mug}}))
    flaky = shop.folder / shop.listings[reserved][0]
    away = flaky.rename(flaky.with_suffix(".away"))

    def begun() -> bool:
        """Whether the training begins anew, after the steps before it."""
        again = Workspace.open(ws.store.root)
        make_splits(again)
        annotate(ws.store.root)
        artifact = begin(again)
        return artifact.manifest is None and artifact.finish("adapter", {}, []) is not None

    assert (begun(), begun()) == (True, False)
    away.rename(flaky)
    assert not begun()
    own = shop.folder / shop.listings[taught][0]
    own.write_bytes((shop.folder / shop.picture(77)).read_bytes())
    assert begun()


def test_a_photograph_that_never_could_be_read_has_no_fingerprint(shop, tmp_path):
    (shop.folder / "damaged.img").write_bytes(b"nothing")
    shop.add("a", "b", pictures=["damaged.img"])
    shop.add("c", pictures=["missing.img"])
    splits = make_splits(shop.run(tmp_path / "runs"))
    assert (splits.group["a"], splits.group["b"], splits.group["c"]) == ("a", "b", "c")


def test_the_splits_are_read_by_every_step_as_they_were_decided(shop, tmp_path):
    shop.add("a", "b", pictures=[shop.picture(1)])
    shop.labels = [
        {"listing": listing, "attribute": "lid", "value": "yes", "split": split}
        for listing, split in (("a", "train"), ("b", "test"))
    ]
    ws = shop.run(tmp_path / "runs")
    made = make_splits(ws)
    assert splits_of(ws) == made and dict(made.mixed) == {"b": "a"}


def test_a_look_at_some_photographs_only_writes_nothing(shop, tmp_path):
    ws = shop.run(tmp_path / "runs")
    found = survey(ws.config, ws.store.root, ws.listings, {}, most=5)
    assert set(found.splits.of) == set(shop.listings)
    assert not (tmp_path / "runs" / "splits").exists()


def test_two_catalogues_can_have_registers_of_their_own(shop, tmp_path):
    ws = shop.run(tmp_path / "runs", data={"splits": str(tmp_path / "elsewhere")})
    make_splits(ws)
    assert (tmp_path / "elsewhere" / "listings" / "00000001.parquet").is_file()
    assert not (tmp_path / "runs" / "splits").exists()


def test_photographs_behind_urls_are_seen_when_they_are_replaced_and_no_signature_is_kept(shop, tmp_path, monkeypatch):
    monkeypatch.setenv("ATTRLOOP_CACHE", str(tmp_path / "cache"))
    content = {"number": 1}

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            body = encoded(photograph(content["number"], (96, 72)), "PNG")
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as url:
        shop.add("far", pictures=[f"{url}/far.png?id={k}&signature=S3CRET" for k in (1, 2)])
        shop.add("near", pictures=[shop.picture(1)])
        ws = shop.run(tmp_path / "runs", data={"allowed_hosts": ["127.0.0.1"]})
        before = survey(ws.config, ws.store.root, ws.listings, {})
        before.remember()
        survey(ws.config, ws.store.root, ws.listings, {})  # nothing has changed: nothing is kept
        shop.listings["far"] = [f"{url}/far.png?X-Amz-Expires=60&id={k}&Signature=ANOTHER" for k in (1, 2)]
        ws = shop.run(tmp_path / "runs", data={"allowed_hosts": ["127.0.0.1"]})
        survey(ws.config, ws.store.root, ws.listings, {})  # nor has it where another signature is
        content["number"] = 2
        after = survey(ws.config, ws.store.root, ws.listings, {})
    assert before.splits.group["far"] == before.splits.group["near"]
    assert after.digest != before.digest
    assert after.splits.of == before.splits.of
    kept = pl.concat([pl.read_parquet(path) for path in (tmp_path / "runs" / "splits" / "photographs").iterdir()])
    assert kept.height == 25 and kept["name"].n_unique() == 23 and "S3CRET" not in str(kept.to_dicts())
