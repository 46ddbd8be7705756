"""Splits in a catalogue whose photographs are not all looked at."""

from attrloop.components.catalogue.images import ImageReader
from attrloop.components.gold.presumed import presumed, splits_among
from attrloop.components.gold.split import drawn_split
from attrloop.components.gold.splits import make_splits
from tests.components.gold.shop import Shop


def test_what_is_presumed_holds_for_all_that_share_no_photograph(tmp_path):
    shop = Shop(tmp_path / "shop")
    shop.add(*(f"mug-{k}" for k in range(30)))
    rows = presumed(shop.listings, {"mug-3": "test"})
    found = dict(rows.select("listing", "split").rows())
    assert found.pop("mug-3") == "test"
    made = make_splits(shop.run(tmp_path / "runs")).of
    assert found == {listing: split for listing, split in made.items() if listing != "mug-3"}


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
