"""Splits in a catalogue whose photographs are not all looked at."""

import tracemalloc

import polars as pl

from attrloop.components.catalogue.images import ImageReader
from attrloop.components.gold.presumed import known_splits, presumed, splits_among
from attrloop.components.gold.register import register_of
from attrloop.components.gold.split import drawn_split
from attrloop.components.gold.splits import make_splits
from tests.components.gold.shop import Shop


def test_what_is_presumed_holds_for_all_that_share_no_photograph(tmp_path):
    shop = Shop(tmp_path / "shop")
    shop.add(*(f"mug-{k}" for k in range(30)))
    rows = presumed(shop.listings, known_splits(shop.run(tmp_path / "presuming"), {"mug-3": "test"}))
    found = dict(rows.select("listing", "split").rows())
    assert found.pop("mug-3") == "test"
    made = make_splits(shop.run(tmp_path / "runs")).of
    assert found == {listing: split for listing, split in made.items() if listing != "mug-3"}


def test_what_a_large_register_remembers_becomes_no_python_objects_and_the_last_row_holds(tmp_path):
    shop = Shop(tmp_path / "shop")
    shop.add("mug-1", "mug-2", "mug-3", "new")
    ws, many = shop.run(tmp_path / "runs"), 100_000
    for split in ("train", "test"):
        rows = pl.select(listing=pl.format("mug-{}", pl.int_range(many)), split=pl.lit(split), photographs=[])
        register = register_of(ws.config, ws.store.root).listings
        register.rows()
        register.add(rows.cast({"photographs": pl.List(pl.UInt64)}))
    tracemalloc.start()
    found = presumed(shop.listings, known_splits(ws, {"mug-2": "validation"}))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    of = {"mug-1": "test", "mug-2": "validation", "mug-3": "test", "new": drawn_split("new")}
    assert dict(found.select("listing", "split").rows()) == of
    assert most < 10 * many, "an id and a split alone are more"


def test_a_copy_of_what_was_learnt_from_is_no_gold_and_only_asked_photographs_are_read(tmp_path, monkeypatch):
    shop = Shop(tmp_path / "shop")
    learnt = next(f"mug-{k}" for k in range(100) if drawn_split(f"mug-{k}") == "train")
    shop.add(learnt, pictures=[shop.picture(1)])
    make_splits(shop.run(tmp_path / "runs"))
    later = Shop(tmp_path / "later")
    copy, other = [f"new-{k}" for k in range(100) if drawn_split(f"new-{k}") == "test"][:2]
    later.add(copy, pictures=[later.picture(1, "webp")])
    later.add(other, "never-asked")
    ws = later.run(tmp_path / "runs", "prediction")
    read: list[str] = []
    original = ImageReader.open
    monkeypatch.setattr(ImageReader, "open", lambda *args: read.append(args[1]) or original(*args))
    splits = splits_among(ws, [ws.listings[copy], ws.listings[other]])
    assert dict(splits.of) == {copy: "train", other: "test"}
    assert sorted(read) == sorted([*later.listings[copy], *later.listings[other]])
    monkeypatch.undo()
    assert make_splits(later.run(tmp_path / "runs", "training")).of[copy] == "train", "it is remembered"
