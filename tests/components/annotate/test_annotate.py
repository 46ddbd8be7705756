import base64
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
from attrloop.components.gold import split
from attrloop.components.gold.decide import decide
from attrloop.components.gold.left_out import judged_by, left_out
from attrloop.components.gold.sampled import unlabelled_train
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.opening import open_store
from tests.components.annotate.shop import USAGE, answer, chat, labels_of, report_of
from tests.emulator import upload
from tests.splits import write_splits


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


def test_a_title_of_a_megabyte_is_cut_and_costs_little_and_a_rationale_of_one_is_cut(shop, endpoint):
    rows = [json.loads(line) for line in (shop.folder / "listings.jsonl").read_text().splitlines()]
    rows = [row | {"title": "mug " * 250_000, "metadata": {"story": "word " * 200_000}} for row in rows]
    (shop.folder / "listings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def behave(body, number):
        long = {name: value | {"rationale": "I see it. " * 10_000} for name, value in answer(body).items()}
        return 200, chat(json.dumps(long)), {}

    endpoint.behave = behave
    uri = shop.workspace()
    annotate(uri)
    for body in endpoint.bodies:
        assert len(body["messages"][1]["content"][0]["text"]) < 8_000
    rationales = [label["rationale"] for label in labels_of(uri)]
    assert rationales and all(text.endswith(" [...]") and len(text) <= 2_000 for text in rationales)


def test_another_seed_labels_the_same_listings(shop, endpoint):
    uri = shop.workspace()
    annotate(uri)
    before = labels_of(uri)
    Workspace.create(uri, shop.config().model_copy(update={"seed": 1}))
    annotate(uri)
    assert labels_of(uri) == before and len(endpoint.bodies) == 8


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
    store = open_store(shop.create(f"{bucket}/runs/run", data=data, **settings))
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
    store = open_store(shop.create(f"{bucket}/runs/run", data=data, concurrency=1))
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
    assert report_of(uri)["stopped_at"] == "annotate.max_calls"
    assert report_of(uri)["listings"]["train"] == {"mug": 1, "lamp": 1}
    assert [(row["vertical"], row["attribute"], row["split"], row["labels"]) for row in report_of(uri)["short"]] == [
        ("mug", "main pattern", "test", 0),
        ("mug", "colours", "test", 0),
        ("lamp", "shape", "validation", 0),
        ("lamp", "shape", "test", 0),
    ]


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
    assert len(endpoint.bodies) == 6 and report_of(uri)["listings"]["train"] == {"mug": 2, "lamp": 2}
    assert report_of(uri)["labels"]["train"] == {"mug": 4, "lamp": 2}, "mug-1 was asked for its colours"
    splits = splits_of(uri)
    assert not splits["train"] & (splits["validation"] | splits["test"]) and not splits["validation"] & splits["test"]


def test_gold_that_shares_a_photograph_with_another_split_is_left_out_of_comparisons_and_named(shop, endpoint):
    given = shop.labels({"listing": "mug-0", "attribute": "main pattern", "value": "solid", "split": "test"})
    ws = Workspace.create(str(shop.folder / "run"), shop.config(labels=given))
    write_splits(ws, decide(ws.listings, {"mug-0": "test", "mug-1": "train"}).of, mixed={"mug-0": "mug-1"})
    annotate(ws.store.root)
    assert [(row.listing, row.reason, row.other) for row in left_out(ws)] == [("mug-0", "mixed", "mug-1")]
    judged = {label.listing for label in judged_by(ws, "test") if label.listing.startswith("mug")}
    assert len(judged) == 1 and "mug-0" not in judged, "another fills the place"
    assert report_of(ws.store.root)["given_mixed"] == ["mug-0"]


def test_given_labels_beyond_the_counts_are_left_out_and_told(shop, endpoint):
    path = shop.labels(*({"listing": f"lamp-{k}", "attribute": "shape", "value": "round"} for k in range(12)))
    uri = shop.workspace(labels=path)
    annotate(uri)
    assert report_of(uri)["given_surplus"] == 8 and report_of(uri)["listings"]["train"]["lamp"] == 2
    assert len(endpoint.bodies) == 4, "mugs only"
    drawn = {key: split.drawn_split(key) for key in Workspace.open(uri).listings}
    assert {row["listing"]: row["split"] for row in labels_of(uri)}.items() <= drawn.items()
    left = [listing.id for listing in unlabelled_train(Workspace.open(uri))]
    assert len(left) == list(drawn.values()).count("train") - 4 and all(drawn[key] == "train" for key in left)


def asked_for(body: dict) -> list[str]:
    return list(body["response_format"]["json_schema"]["schema"]["properties"])


def test_of_a_listing_with_some_labels_only_the_others_are_asked(shop, endpoint):
    path = shop.labels({"listing": "mug-0", "attribute": "main pattern", "value": "striped", "split": "train"})
    uri = shop.workspace(labels=path, train_per_vertical=2)
    annotate(uri)
    (body,) = [body for body in endpoint.bodies if asked_for(body) == ["colours"]]
    assert "main pattern" not in json.dumps(body) and len(endpoint.bodies) == 4 + 3 + 1
    labels = {(row["listing"], row["attribute"]): row for row in labels_of(uri)}
    assert labels["mug-0", "main pattern"]["value"] == "striped" and labels["mug-0", "main pattern"]["cost"] == 0
    asked = labels["mug-0", "colours"]
    assert (asked["value"], asked["split"]) == ("red", "train")
    assert asked["cost"] == pytest.approx((USAGE["prompt_tokens"] * 0.4 + USAGE["completion_tokens"] * 1.6) / 1e6)
    assert report_of(uri)["labels"]["train"] == {"mug": 4, "lamp": 2} and not report_of(uri)["short"]


def test_an_answer_that_was_paid_for_is_used_for_whatever_part_of_a_listing_is_missing(shop, endpoint):
    uri = shop.workspace(train_per_vertical=2)
    annotate(uri)
    mug = next(row["listing"] for row in labels_of(uri) if row["split"] == "train" and row["listing"].startswith("mug"))
    before = labels_of(uri)
    shop.workspace(labels=shop.labels({"listing": mug, "attribute": "main pattern", "value": "none"}))
    annotate(uri)
    assert len(endpoint.bodies) == 8, "its colours were paid for in the request for both"
    value = {(row["listing"], row["attribute"]): row["value"] for row in labels_of(uri)}
    assert value == {(row["listing"], row["attribute"]): row["value"] for row in before} | {
        (mug, "main pattern"): "none"
    }


def test_a_part_that_was_paid_for_is_not_asked_again_with_the_rest(shop, endpoint):
    given = {"listing": "mug-0", "attribute": "main pattern", "value": "striped", "split": "train"}
    uri = shop.workspace(labels=shop.labels(given), train_per_vertical=1)
    annotate(uri)
    asked, counted = len(endpoint.bodies), report_of(uri)["cost"]
    shop.workspace(labels=shop.labels(given | {"attribute": "colours", "value": "blue"}), train_per_vertical=1)
    annotate(uri)
    assert [asked_for(body) for body in endpoint.bodies[asked:]] == [["main pattern"]]
    shop.workspace(labels=shop.labels(), train_per_vertical=12)  # of mug-0 all is known now, in two replies
    annotate(uri)
    new = endpoint.bodies[asked + 1 :]
    assert all(asked_for(body) in (["main pattern", "colours"], ["shape"]) for body in new)
    train = [row for row in labels_of(uri) if row["split"] == "train"]
    assert len(new) == len({row["listing"] for row in train}) - 1 - 1 and "mug-0" in {row["listing"] for row in train}
    assert report_of(uri)["cost"] == pytest.approx(counted / asked * len(endpoint.bodies))


def test_once_the_budget_has_ended_replies_that_were_paid_for_are_still_used(shop, endpoint):
    uri = shop.workspace(max_calls=8)
    annotate(uri)
    before = labels_of(uri)
    shop.workspace(max_calls=8, train_per_vertical=4)
    mugs = [f"mug-{k}" for k in range(12) if split.drawn_split(f"mug-{k}") == "train"]
    for mug in sorted(mugs, key=split.rank)[4:]:
        Path(shop.folder, f"{mug}.png").unlink()  # nothing is looked for among these
    annotate(uri)
    assert len(endpoint.bodies) == 8 and not report_of(uri)["bad_images"]
    assert report_of(uri)["cached"] == 8 and report_of(uri)["stopped_at"] == "annotate.max_calls"
    assert {json.dumps(row) for row in labels_of(uri)} == {json.dumps(row) for row in before}


def test_without_a_call_allowed_nothing_is_asked_and_what_is_short_is_named(shop, endpoint, monkeypatch):
    monkeypatch.delenv("ANNOTATOR_KEY")
    rows = [{"listing": f"lamp-{k}", "attribute": "shape", "value": "round"} for k in (0, 1, 5)]
    rows += [{"listing": f"mug-{k}", "attribute": "colours", "value": "red"} for k in (0, 1, 2, 4)]
    uri = shop.workspace(labels=shop.labels(*rows), max_calls=0)
    annotate(uri)
    assert not endpoint.bodies and len(labels_of(uri)) == 7
    assert report_of(uri)["short"][0] == {
        "vertical": "mug",
        "attribute": "main pattern",
        "split": "train",
        "wanted": 2,
        "labels": 0,
        "listings": 8,
    }
    assert [(row["attribute"], row["split"], row["labels"]) for row in report_of(uri)["short"][1:]] == [
        ("main pattern", "validation", 0),
        ("main pattern", "test", 0),
        ("shape", "train", 1),
    ]


def test_an_unusable_reply_is_replaced_within_its_split(shop, endpoint):
    undisturbed = shop.workspace("undisturbed")
    annotate(undisturbed)
    gold = next(row["listing"] for row in labels_of(undisturbed) if row["split"] == "test")
    refused = Workspace.open(undisturbed).images.jpeg(f"{gold}.png", 768)
    endpoint.behave = lambda body, number: (
        (200, chat("I will not."), {}) if base64.b64encode(refused).decode() in json.dumps(body) else None
    )
    uri = shop.workspace("refused")
    annotate(uri)
    before, after = splits_of(undisturbed), splits_of(uri)
    assert (before["train"], before["validation"]) == (after["train"], after["validation"])
    assert before["test"] - after["test"] == {gold} and len(after["test"]) == 2


def test_labels_of_a_review_are_trained_on_and_never_become_gold(shop, endpoint):
    rows = [{"listing": f"lamp-{k}", "attribute": "shape", "value": "square", "source": "review"} for k in range(12)]
    uri = shop.workspace(labels=shop.labels(*rows))
    annotate(uri)
    lamps = [row for row in labels_of(uri) if row["attribute"] == "shape"]
    assert [row["source"] for row in lamps if row["split"] == "train"] == ["review", "review"]
    assert [row["source"] for row in lamps if row["split"] != "train"] == ["api", "api"]
    assert report_of(uri)["given_reviewed"] == 3, "lamp-1 and lamp-3 are of validation, lamp-5 of test"


def test_a_listing_whose_labels_name_two_splits_is_an_error_that_names_the_lines(shop):
    path = shop.labels(
        {"listing": "mug-0", "attribute": "main pattern", "value": "solid", "split": "train"},
        {"listing": "mug-0", "attribute": "colours", "value": "red", "split": "test"},
    )
    with pytest.raises(InputError, match=r"labels.jsonl:2 \(listing mug-0\): .*train on line 1, test on line 2"):
        annotate(shop.workspace(labels=path))


def test_a_few_unreadable_images_are_replaced_and_counted_and_many_stop_the_run(shop):
    undisturbed = shop.workspace("undisturbed", train_per_vertical=3, data={"max_bad_images": 0.2})
    annotate(undisturbed)
    lost = next(row["listing"] for row in labels_of(undisturbed) if row["split"] == "train")
    Path(shop.folder, f"{lost}.png").write_bytes(b"no image")
    drawn = {"train_per_vertical": 3}
    uri = shop.workspace(data={"max_bad_images": 0.2}, **drawn)
    annotate(uri)
    assert report_of(uri)["listings"]["train"] == {"mug": 3, "lamp": 3} and not report_of(uri)["short"]
    assert f"listing {lost}" in report_of(uri)["bad_images"][0]
    before, after = splits_of(undisturbed), splits_of(uri)
    assert len(before["train"] - after["train"]) == 1 and len(after["train"] - before["train"]) == 1
    assert all(before[name] == after[name] for name in ("validation", "test")), "no other split changes"
    with pytest.raises(
        InputError,
        match=rf"1 of 11 listings have unreadable images(.|\n)*listing {lost}, image {lost}.png: not an image",
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


def test_a_damaged_line_within_the_cache_is_named_and_its_request_sent_again(shop, caplog):
    uri = shop.workspace()
    annotate(uri)
    (cache,) = replies(uri)
    lines = cache.read_text().splitlines()
    before = Path(uri, "annotate/labels.jsonl").read_bytes()
    cache.write_text("\n".join([lines[0], lines[1].replace('"cost":0.', '"cost":9.'), *lines[2:]]) + "\n")
    Path(uri, "annotate/manifest.json").unlink()
    with caplog.at_level("WARNING"):
        annotate(uri)
    assert "replies.jsonl:2: a damaged line in the annotation cache" in caplog.text
    assert Path(uri, "annotate/labels.jsonl").read_bytes() == before
    files = Path(uri, "annotate-cache").rglob("*.jsonl")
    assert sum(len(file.read_text().splitlines()) for file in files) == len(lines) + 1
