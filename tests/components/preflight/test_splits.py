"""What preflight says of splits and of photographs that several listings share."""

import json
from pathlib import Path

import pytest
from PIL import Image

from attrloop.components.errors import InputError
from attrloop.components.gold.splits import splits_of
from attrloop.components.preflight.check import check, examine
from attrloop.components.preflight.finding import Finding
from attrloop.components.run.workspace import Workspace
from tests.photographs import photograph


def splits(shop, workspace: str = "") -> Finding:
    found = examine(shop.config(), workspace or str(shop.folder.parent / "runs" / "run")).findings
    return next(finding for finding in found if finding.name == "splits")


def show(shop, listing: str, *images: str) -> None:
    rows = {row["id"]: row for row in shop.rows("listings.jsonl")}
    rows.setdefault(listing, {"id": listing, "vertical": "mug"})["images"] = list(images)
    shop.write("listings.jsonl", list(rows.values()))


def started(shop, name: str = "run") -> Workspace:
    ws = Workspace.create(str(shop.folder.parent / "runs" / name), shop.config())
    check(ws.store.root)
    return ws


def test_the_splits_are_counted(shop):
    finding = splits(shop)
    assert finding.state == "ok"
    sizes = [int(part.split()[0]) for part in finding.detail.partition(";")[0].split(", ")]
    assert sum(sizes) == 20 and finding.detail.endswith("no two listings are of one group")


def test_listings_that_share_photographs_are_counted_and_the_largest_group_is_named(shop):
    photograph(1).save(shop.folder / "shared.png")
    photograph(1).save(shop.folder / "copy.jpg", quality=70)
    for listing, image in {"mug-1": "shared.png", "mug-2": "shared.png", "mug-3": "copy.jpg"}.items():
        show(shop, listing, image)
    for listing in ("lamp-1", "lamp-2"):
        show(shop, listing, "lamp-1.png")
    detail = splits(shop).detail
    assert "listings that share photographs: 5; groups of them, each with one split: 2" in detail
    assert "the largest has 3 (mug-1, mug-2, mug-3)" in detail


def test_a_photograph_that_very_many_show_is_named(shop):
    Image.new("RGB", (64, 64), "white").save(shop.folder / "none.png")
    for number in range(60):
        show(shop, f"mug-new-{number}", "none.png")
    finding = splits(shop)
    assert finding.state == "note"
    assert "60 listings show none.png: so many that it is taken for a placeholder" in finding.detail
    assert "no two listings are of one group" in finding.detail


def test_gold_that_shares_a_photograph_with_what_is_learnt_from_is_named(shop):
    show(shop, "mug-1", "mug-0.png")
    shop.write(
        "labels.jsonl",
        [
            {"listing": listing, "attribute": "pattern", "value": "solid", "split": split}
            for listing, split in (("mug-0", "test"), ("mug-1", "train"))
        ],
    )
    finding = splits(shop)
    assert (finding.state, finding.problems) == ("note", [])
    assert "that is learnt from, and are left out of comparisons: 1 (" in finding.detail
    assert "(mug-0)" in finding.detail


def test_gold_that_an_earlier_run_may_have_learnt_from_is_told(shop):
    before = splits_of(started(shop)).of
    learnt = sorted(listing for listing, split in before.items() if split == "train")[0]
    attribute = "pattern" if learnt.startswith("mug") else "shape"
    value = "solid" if learnt.startswith("mug") else "round"
    rows = [{"listing": learnt, "attribute": attribute, "value": value, "split": "test"}]
    shop.write("labels.jsonl", shop.rows("labels.jsonl") + rows)
    finding = splits(shop, str(shop.folder.parent / "runs" / "second"))
    assert finding.note and not finding.problems
    assert (
        f"1 listings are gold by their labels, but earlier runs had them in a split that is learnt from ({learnt})"
        in (finding.detail)
    )
    shop.set("data", splits=str(shop.folder.parent / "other"))
    assert "earlier runs" not in splits(shop, str(shop.folder.parent / "runs" / "second")).detail


def state(shop, **splits: str) -> None:
    """States splits of listings by a label of each."""
    rows = [
        {"listing": listing.replace("_", "-"), "attribute": "pattern", "value": "solid", "split": split}
        if listing.startswith("mug")
        else {"listing": listing.replace("_", "-"), "attribute": "shape", "value": "round", "split": split}
        for listing, split in splits.items()
    ]
    shop.write("labels.jsonl", rows)


def test_gold_that_is_now_learnt_from_is_told_also_when_the_run_goes_on(shop):
    gold = sorted(listing for listing, split in splits_of(started(shop)).of.items() if split == "test")[0]
    state(shop, **{gold.replace("-", "_"): "train"})
    told = (
        f"1 listings were gold in earlier runs, but their labels now put them in a split that is learnt from ({gold})"
    )
    second = str(shop.folder.parent / "runs" / "second")
    assert splits(shop, second).note and told in splits(shop, second).detail
    started(shop, "second")
    assert told in splits(shop, second).detail, "the register has the new split now"


def test_a_run_that_goes_on_is_planned_by_its_own_splits_whatever_another_run_states(shop):
    first = started(shop)
    before, config = splits_of(first).of, first.config
    moved = sorted(listing for listing, split in before.items() if split == "train")[0]
    labels = shop.folder / "others.jsonl"
    row = {"listing": moved, "attribute": "pattern" if moved.startswith("mug") else "shape", "split": "test"}
    labels.write_text(json.dumps(row | {"value": "solid" if moved.startswith("mug") else "round"}) + "\n")
    shop.set("data", labels=str(labels))
    assert splits_of(started(shop, "second")).of[moved] == "test"
    found = examine(config, first.store.root).survey
    assert found.splits.of == before == splits_of(first).of


def test_another_catalogue_with_the_same_ids_is_told(shop):
    started(shop)
    for number, row in enumerate(shop.rows("listings.jsonl")):
        photograph(500 + number).save(shop.folder / row["images"][0])
        if number == 9:
            assert "another catalogue" not in splits(shop).detail, "half are replaced"
    finding = splits(shop)
    assert finding.note and "20 of 20 listings with ids of earlier runs show none" in finding.detail


def test_what_preflight_refuses_is_not_remembered(shop):
    shop.set("annotate", key_env="NOT_SET_KEY")
    with pytest.raises(InputError):
        started(shop)
    assert not (shop.folder.parent / "runs" / "splits" / "listings").exists()
    shop.set("annotate", key_env="ANNOTATOR_KEY")
    started(shop)
    assert (shop.folder.parent / "runs" / "splits" / "listings" / "00000001.parquet").is_file()


def test_a_check_without_a_workspace_writes_nothing(shop, monkeypatch):
    monkeypatch.chdir(shop.folder.parent)
    assert examine(shop.config()).survey.splits.of
    assert not Path("runs").exists()


def test_a_damaged_register_is_a_problem_that_names_its_file(shop):
    folder = shop.folder.parent / "runs" / "splits" / "listings"
    folder.mkdir(parents=True)
    (folder / "00000001.parquet").write_bytes(b"")
    [problem] = splits(shop).problems
    assert "00000001.parquet" in problem.where and "damaged" in problem.what


def test_a_register_that_cannot_be_written_is_a_problem(shop):
    (shop.folder.parent / "runs").mkdir()
    (shop.folder.parent / "runs" / "splits").write_text("a file")
    [problem, *_] = splits(shop).problems
    assert "register of splits" in problem.where and "data.splits" in problem.remedy


def test_a_replaced_photograph_begins_anew_what_is_made_from_photographs(shop):
    ws = started(shop)
    first = (Path(ws.store.root) / "preflight" / "manifest.json").read_text()
    started(shop)
    made_from = json.loads((Path(ws.store.root) / "preflight" / "manifest.json").read_text())["made_from"]
    assert made_from == json.loads(first)["made_from"]
    photograph(9, (40, 30)).save(shop.folder / "mug-3.png")
    started(shop)
    after = json.loads((Path(ws.store.root) / "preflight" / "manifest.json").read_text())["made_from"]
    assert after["photographs"] != made_from["photographs"]
    assert {name for name in after if after[name] != made_from[name]} == {"photographs"}
