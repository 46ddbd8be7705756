import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from attrloop.components.annotate.annotate import annotate
from attrloop.components.errors import InputError
from attrloop.components.run.workspace import Workspace
from tests.components.annotate.shop import labels_of, report_of
from tests.emulator import upload


def replies(uri: str) -> list[Path]:
    """The caches of all processes, the oldest first."""
    return sorted(Path(uri).glob("annotate-cache/*/replies.jsonl"))


def splits_of(uri: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for label in labels_of(uri):
        found.setdefault(label["split"], set()).add(label["listing"])
    return found


def test_one_request_a_listing_fills_every_split_of_every_vertical(shop, endpoint):
    uri = shop.workspace()
    annotate(uri)
    assert len(endpoint.bodies) == 8
    splits = splits_of(uri)
    assert {split: Counter(name.split("-")[0] for name in names) for split, names in splits.items()} == {
        "train": {"mug": 2, "lamp": 2},
        "validation": {"mug": 1, "lamp": 1},
        "test": {"mug": 1, "lamp": 1},
    }
    assert len(set.union(*splits.values())) == 8
    mug = [label for label in labels_of(uri) if label["listing"].startswith("mug")][:2]
    assert [(label["attribute"], label["value"], label["source"], label["rationale"]) for label in mug] == [
        ("main pattern", "solid", "api", "I see it."),
        ("colours", "red", "api", "I see it."),
    ]
    assert mug[0]["cost"] == pytest.approx((1000 * 0.4 + 100 * 1.6) / 1e6 / 2)
    report = report_of(uri)
    assert (report["calls"], report["cached"], report["failed"]) == (8, 0, 0)
    assert report["cost"] == pytest.approx(8 * 0.00056) and report["tokens"] == {"prompt": 8000, "completion": 800}
    assert report["labels"]["train"] == {"mug": 4, "lamp": 2} and report["listings"]["train"] == {"mug": 2, "lamp": 2}
    assert {label.listing for label in Workspace.open(uri).labels("train")} == splits["train"]


def test_the_request_carries_the_closed_list_and_a_bounded_jpeg(shop, endpoint):
    annotate(shop.workspace(image_side=20))
    body = next(body for body in endpoint.bodies if "Product: mug" in json.dumps(body))
    schema = body["response_format"]["json_schema"]
    assert schema["strict"] and list(schema["schema"]["properties"]) == ["main pattern", "colours"]
    assert '"enum": ["solid", "striped", "none"]' in json.dumps(schema)
    text, picture = body["messages"][1]["content"]
    assert "stripy" in text["text"] and picture["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")
    assert body["max_completion_tokens"] > 0


def test_the_seed_decides_which_listings_are_drawn(shop):
    drawn = []
    for seed in (0, 0, 1):
        uri = str(shop.folder / f"seed-{len(drawn)}")
        Workspace.create(uri, shop.config().model_copy(update={"seed": seed}))
        annotate(uri)
        drawn.append(labels_of(uri))
    assert drawn[0] == drawn[1] and splits_of(str(shop.folder / "seed-0")) != splits_of(uri)


def test_a_finished_stage_is_reused_without_a_request(shop, endpoint, caplog):
    uri = shop.workspace()
    annotate(uri)
    before = labels_of(uri)
    with caplog.at_level(logging.INFO):
        annotate(uri)
    assert len(endpoint.bodies) == 8 and labels_of(uri) == before and "reusing" in caplog.text


def test_another_address_of_the_endpoint_does_not_undo_a_finished_stage(shop, endpoint):
    uri = shop.workspace()
    annotate(uri)
    Workspace.create(uri, shop.config(base_url="http://127.0.0.1:9/v1"))
    annotate(uri)
    assert len(endpoint.bodies) == 8


def test_a_larger_sample_pays_only_for_what_is_new_and_never_loses_what_was_paid(shop, endpoint):
    uri = shop.workspace()
    annotate(uri)
    shop.workspace(train_per_vertical=3)
    annotate(uri)
    assert len(endpoint.bodies) == 10 and report_of(uri)["cached"] == 8 and report_of(uri)["calls"] == 2
    assert report_of(uri)["cost"] == pytest.approx(10 * 0.00056)


def test_a_fully_cached_run_needs_no_key(shop, endpoint, monkeypatch):
    uri = shop.workspace()
    annotate(uri)
    Path(uri, "annotate/manifest.json").unlink()
    monkeypatch.delenv("ANNOTATOR_KEY")
    annotate(uri)
    assert len(endpoint.bodies) == 8 and report_of(uri)["cached"] == 8


def test_after_a_kill_it_goes_on_and_ends_with_the_labels_of_an_undisturbed_run(shop, endpoint):
    undisturbed = shop.workspace("undisturbed", train_per_vertical=6, concurrency=2)
    annotate(undisturbed)
    asked, gate = len(endpoint.bodies), threading.Event()
    endpoint.behave = lambda body, number: gate.wait(60) and None if number > asked + 7 else None
    uri = shop.workspace("killed", train_per_vertical=6, concurrency=2)
    code = f"from attrloop.components.annotate.annotate import annotate; annotate({uri!r})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and sum(file.read_bytes().count(b"\n") for file in replies(uri)) < 7:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    gate.set()
    (cache,) = replies(uri)
    with cache.open("ab") as file:
        file.write(b'{"key": "half a li')
    kept = len(cache.read_bytes().splitlines()) - 1
    assert kept == 7
    annotate(uri)
    assert labels_of(uri) == labels_of(undisturbed)
    report = report_of(uri)
    assert (report["cached"], report["calls"]) == (7, 16 - 7)
    assert [len(file.read_text().splitlines()) for file in replies(uri)] == [8, 9]


def test_a_pod_that_goes_on_for_a_killed_one_pays_nothing_twice(shop, endpoint, bucket):
    undisturbed, settings = (
        shop.workspace("undisturbed", train_per_vertical=6),
        {"train_per_vertical": 6, "concurrency": 2},
    )
    annotate(undisturbed)
    asked, gate = len(endpoint.bodies), threading.Event()
    endpoint.behave = lambda body, number: gate.wait(60) and None if number > asked + 7 else None
    upload(shop.folder, f"{bucket}/shop")
    data = {"catalogue_schema": f"{bucket}/shop/schema.yaml", "listings": f"{bucket}/shop/listings.jsonl"}
    store = Workspace.create(f"{bucket}/runs/run", shop.config(data=data, **settings)).store
    code = (
        f"from attrloop.components.annotate import annotate, cache; cache._PACE = 0; annotate.annotate({store.root!r})"
    )
    lines = lambda: sum(store.read(path).count(b"\n") for path in store.list("annotate-cache"))  # noqa: E731
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and lines() < 7:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    gate.set()
    annotate(store.root)
    assert store.read("annotate/labels.jsonl") == Path(undisturbed, "annotate/labels.jsonl").read_bytes()
    report = json.loads(store.read("annotate/report.json"))
    assert (report["cached"], report["calls"]) == (7, 16 - 7) and lines() == 16


def test_what_a_pod_pays_beside_the_one_in_its_place_is_known_to_the_next(shop, endpoint, bucket, monkeypatch):
    monkeypatch.setattr("attrloop.components.annotate.cache._PACE", 0)
    upload(shop.folder, f"{bucket}/shop")
    data = {"catalogue_schema": f"{bucket}/shop/schema.yaml", "listings": f"{bucket}/shop/listings.jsonl"}
    store = Workspace.create(f"{bucket}/runs/run", shop.config(data=data, concurrency=1)).store
    gate, reached = threading.Event(), threading.Event()
    endpoint.behave = lambda body, number: reached.set() or (gate.wait(60) and None) if number == 5 else None
    thought_dead = threading.Thread(target=annotate, args=(store.root,))
    thought_dead.start()
    assert reached.wait(60)
    annotate(store.root)
    gate.set()
    thought_dead.join(60)
    assert len(endpoint.bodies) == 4 + 4 + 4, "each paid for the four that were left"
    Workspace.create(store.root, shop.config(data=data, train_per_vertical=3))
    annotate(store.root)
    assert len(endpoint.bodies) == 12 + 2
    assert json.loads(store.read("annotate/report.json"))["cost"] == pytest.approx(14 * 0.00056)


def test_the_budget_in_calls_stops_before_it_is_crossed_and_the_run_goes_on_with_all_verticals(shop, endpoint):
    uri = shop.workspace(max_calls=3, train_per_vertical=1, concurrency=4)
    annotate(uri)
    assert len(endpoint.bodies) == 3
    assert report_of(uri)["stopped_at"] == "annotate.max_calls" and report_of(uri)["short"] == {"mug": 1, "lamp": 2}
    assert report_of(uri)["listings"]["train"] == {"mug": 1, "lamp": 1}


def test_the_budget_in_money_is_never_crossed_though_requests_are_in_flight(shop, endpoint):
    uri = shop.workspace(max_cost=0.0075, price_in=0.0, price_out=10.0, concurrency=8, validation_per_vertical=4)
    annotate(uri)
    report = report_of(uri)
    # A request costs 0.001 but could have cost 0.0053 (mug) or 0.0035 (lamp).
    # The third mug might cross the cap, so it is not sent.
    assert report["calls"] == len(endpoint.bodies) == 4 and report["cost"] == pytest.approx(0.004)
    assert report["stopped_at"] == "annotate.max_cost"


def test_a_budget_that_leaves_a_vertical_without_training_labels_is_an_error_and_a_raised_one_goes_on(shop, endpoint):
    uri = shop.workspace(max_calls=1)
    with pytest.raises(
        InputError,
        match=r"vertical lamp: it has no training label \(stopped at annotate.max_calls\). Raise annotate.max_calls",
    ):
        annotate(uri)
    shop.workspace(max_calls=100)
    annotate(uri)
    assert len(endpoint.bodies) == 8


def test_labels_given_by_the_user_come_first_and_keep_their_split(shop, endpoint):
    path = shop.labels(
        {"listing": "mug-0", "attribute": "main pattern", "value": "Stripy", "split": "test"},
        {"listing": "mug-0", "attribute": "colours", "value": "blue; RED"},
        {"listing": "mug-1", "attribute": "main pattern", "value": "none", "split": "train"},
        {"listing": "lamp-0", "attribute": "shape", "value": "round"},
    )
    uri = shop.workspace(labels=path)
    annotate(uri)
    given = {(label["listing"], label["attribute"]): label for label in labels_of(uri) if label["source"] == "human"}
    assert given["mug-0", "main pattern"]["value"] == "striped" and given["mug-0", "colours"]["value"] == "red; blue"
    assert {key[0]: label["split"] for key, label in given.items()} == {
        "mug-0": "test",
        "mug-1": "train",
        "lamp-0": "train",
    }
    assert len(endpoint.bodies) == 5 and report_of(uri)["listings"]["train"] == {"mug": 2, "lamp": 2}
    splits = splits_of(uri)
    assert not splits["train"] & (splits["validation"] | splits["test"]) and not splits["validation"] & splits["test"]


def test_given_labels_beyond_the_counts_are_left_out_and_told(shop, endpoint):
    path = shop.labels(*({"listing": f"lamp-{k}", "attribute": "shape", "value": "round"} for k in range(9)))
    uri = shop.workspace(labels=path)
    annotate(uri)
    assert report_of(uri)["given_surplus"] == 5 and report_of(uri)["listings"]["train"]["lamp"] == 2
    assert len(endpoint.bodies) == 4 and len(Workspace.open(uri).unlabelled()) == 24 - 8


def test_a_listing_whose_labels_name_two_splits_is_an_error_that_names_the_lines(shop):
    path = shop.labels(
        {"listing": "mug-0", "attribute": "main pattern", "value": "solid", "split": "train"},
        {"listing": "mug-0", "attribute": "colours", "value": "red", "split": "test"},
    )
    with pytest.raises(InputError, match=r"labels.jsonl:2 \(listing mug-0\): .*train on line 1, test on line 2"):
        annotate(shop.workspace(labels=path))


def test_a_few_unreadable_images_are_replaced_and_counted_and_many_stop_the_run(shop):
    Path(shop.folder, "mug-3.png").write_bytes(b"no image")
    drawn = {"train_per_vertical": 12, "validation_per_vertical": 0, "test_per_vertical": 0}
    uri = shop.workspace(data={"max_bad_images": 0.1}, **drawn)
    annotate(uri)
    assert report_of(uri)["listings"]["train"] == {"mug": 11, "lamp": 12} and report_of(uri)["short"] == {"mug": 1}
    assert "listing mug-3" in report_of(uri)["bad_images"][0]
    with pytest.raises(
        InputError, match=r"1 of 24 listings have unreadable images(.|\n)*listing mug-3, image mug-3.png: not an image"
    ):
        annotate(shop.workspace("strict", data={"max_bad_images": 0.02}, **drawn))


def test_a_given_label_of_a_listing_with_an_unreadable_image_is_replaced(shop):
    Path(shop.folder, "lamp-0.png").unlink()
    path = shop.labels({"listing": "lamp-0", "attribute": "shape", "value": "round", "split": "train"})
    uri = shop.workspace(labels=path, data={"max_bad_images": 0.5})
    annotate(uri)
    assert "lamp-0" not in set.union(*splits_of(uri).values()) and report_of(uri)["listings"]["train"] == {
        "mug": 2,
        "lamp": 2,
    }


def test_the_key_is_never_written_or_logged(shop, endpoint, key, caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        uri = shop.workspace()
        annotate(uri)
    assert endpoint.keys == {f"Bearer {key}"}
    assert key not in caplog.text and key not in "".join(capfd.readouterr())
    assert all(key.encode() not in path.read_bytes() for path in shop.folder.rglob("*") if path.is_file())


def test_a_full_disk_is_a_clear_error(shop, monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    uri = shop.workspace()
    # The name of a process's file is its own: here that of one where a full device is waiting.
    monkeypatch.setattr("attrloop.components.annotate.cache.this_process", lambda: "full")
    Path(uri, "annotate-cache/full").mkdir(parents=True)
    Path(uri, "annotate-cache/full/replies.jsonl").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"replies.jsonl: no space left on the device. Free some space"):
        annotate(uri)


def test_a_damaged_line_within_the_cache_is_named(shop):
    uri = shop.workspace()
    annotate(uri)
    (cache,) = replies(uri)
    lines = cache.read_text().splitlines()
    cache.write_text("\n".join([lines[0], "garbage", *lines[1:]]) + "\n")
    Path(uri, "annotate/manifest.json").unlink()
    with pytest.raises(InputError, match=r"replies.jsonl:2: a damaged line"):
        annotate(uri)
