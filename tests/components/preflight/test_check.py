import json
from pathlib import Path

import pytest

from attrloop.components.errors import InputError
from attrloop.components.gold.split import drawn_split
from attrloop.components.preflight.check import check, examine
from attrloop.components.run.workspace import Workspace


def workspace(shop) -> str:
    uri = str(shop.folder.parent / "run")
    Workspace.create(uri, shop.config())
    return uri


def report_of(uri: str) -> dict:
    return json.loads(Path(uri, "preflight/report.json").read_text())


def test_a_passed_check_prints_a_table_and_writes_the_report(shop, capsys):
    uri = workspace(shop)
    check(uri)
    report = report_of(uri)
    names = {entry["check"] for entry in report["findings"]}
    assert {
        "schema",
        "listings",
        "images",
        "budget",
        "annotator",
        "tracking",
        "base model",
        "GPU",
        "disk",
        "workspace",
    } <= names
    assert not [entry for entry in report["findings"] if entry["problems"]]
    assert "preflight" in (shown := capsys.readouterr().out) and "base model" in shown
    assert Path(uri, "preflight/manifest.json").is_file()
    assert "sk-secret-123" not in Path(uri, "preflight/report.json").read_text() + shown


def test_a_failed_check_raises_all_problems_and_still_writes_the_report(shop):
    shop.set("annotate", key_env="NOT_SET_KEY").set("model", lora_targets="nothing")
    uri = workspace(shop)
    with pytest.raises(InputError, match="2 problems found"):
        check(uri)
    assert sum(len(entry["problems"]) for entry in report_of(uri)["findings"]) == 2
    assert not Path(uri, "preflight/manifest.json").exists()


def test_missing_files_are_problems_of_the_check(shop):
    (shop.folder / "listings.jsonl").unlink()
    with pytest.raises(InputError, match="no such file of listings"):
        check(workspace(shop))


def test_again_it_looks_at_what_is_outside_but_at_few_images(shop, server):
    shop.write("listings.jsonl", [row | {"images": row["images"] * 3} for row in shop.rows("listings.jsonl")])
    uri = workspace(shop)
    check(uri)
    check(uri)
    assert server.asked.count("/v1/models") == 2
    assert next(entry for entry in report_of(uri)["findings"] if entry["check"] == "images")["detail"].startswith(
        "20 of 60 opened"
    )
    server.statuses["/v1/models"] = 401
    with pytest.raises(InputError, match="key is refused"):
        check(uri)


def test_the_forecast_counts_calls_chains_and_tokens(shop):
    shop.set("annotate", max_failed=0.0, price_in=0.0, price_out=1.0).set("loop", iterations=2).set(
        "sample", chains=3, max_new_tokens=10
    )
    forecast = examine(shop.config(), str(shop.folder)).forecast
    # 20 listings have one attribute each. 8 are labelled (one label is given). Of split train there are 7 mugs and 7
    # lamps; 2 labelled for validation are sampled too, and the other 4 of the gold splits are left alone.
    assert (forecast.wanted, forecast.calls, forecast.chains, forecast.tokens) == (7, 7, 16 * 3 * 2, 16 * 3 * 2 * 10)
    assert forecast.cost == pytest.approx(7 * 350 / 1e6)
    shop.set("annotate", max_failed=0.3).set("sample", max_listings=4)
    forecast = examine(shop.config(), str(shop.folder)).forecast
    assert (forecast.calls, forecast.chains) == (4 + 5, (6 + 4) * 3 * 2)


def test_the_disk_needed_is_for_the_images_that_some_step_will_encode(shop):
    def disk(copies: int, **sample: object) -> int:
        shop.write("listings.jsonl", rows + [model | {"id": key} for key in train[:copies]])
        return examine(shop.set("sample", **sample).config(), str(shop.folder), images=False).forecast.disk

    # More than 50 listings that show one photograph share it by accident: each has a split of its own.
    rows = [row | {"images": row["images"] * 2} for row in shop.rows("listings.jsonl")]
    model, train = rows[0], [key for key in map("copy-{}".format, range(1000)) if drawn_split(key) == "train"]
    image, chains = (
        (40 * 30 / 28**2 + 1) * 32 * 4,
        8 * (200 + 64 * 5),
    )  # bytes of an image's features, and of a listing's chains
    shop.set("model", dtype="float32").set("loop", iterations=1)
    few, many = disk(0, max_listings=4), disk(60, max_listings=4)
    assert few == many == disk(60, engine="vllm"), "DPO encodes what its pairs show, whoever sampled"
    # 10 listings of split train have no label.
    assert disk(0, max_listings=0) - few == pytest.approx(6 * (2 * image + chains), rel=0.01)
    assert disk(60) - disk(0) == pytest.approx(60 * (2 * image + chains), rel=0.01)
    shop.set("loop", iterations=0)
    assert disk(60) == disk(0), "nothing is sampled"


def test_the_disk_needed_is_that_of_the_device_that_trains(shop, monkeypatch):
    def disk(dtype: str) -> int:
        return examine(shop.set("model", dtype=dtype).config(), str(shop.folder), images=False).forecast.disk

    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert disk("bfloat16") < disk("float32") == disk("auto"), "no GPU on this machine"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert disk("auto") == disk("bfloat16"), "none in this pod"
