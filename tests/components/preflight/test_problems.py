"""Bad input of every kind: a clear error that names file, line, id and remedy."""

import importlib.util
import json
import os
from collections.abc import Callable

import pytest
from PIL import Image

from attrloop.components.errors import InputError
from attrloop.components.preflight.check import examine
from attrloop.components.run.config import load_config


def found(shop, workspace: str = "") -> str:
    return "\n".join(map(str, examine(shop.config(), workspace or str(shop.folder.parent / "run")).problems))


def test_a_faultless_run_has_no_problems(shop):
    assert found(shop) == ""


def edit(name: str, change: Callable[[list[dict]], object]) -> Callable:
    def spoil(shop) -> None:
        rows = shop.rows(name)
        change(rows)
        shop.write(name, rows)

    return spoil


def edit_bytes(name: str, change: Callable[[bytes], bytes]) -> Callable:
    return lambda shop: (shop.folder / name).write_bytes(change((shop.folder / name).read_bytes()))


def label(**values: str) -> Callable:
    return edit(
        "labels.jsonl", lambda rows: rows.append({"listing": "lamp-1", "attribute": "shape", "value": "round"} | values)
    )


def set_image(reference: str) -> Callable:
    return edit("listings.jsonl", lambda rows: rows[2].update(images=[reference]))


def bomb(shop) -> None:
    Image.new("1", (20_000, 20_000)).save(shop.folder / "mug-1.png")


def truncate(shop) -> None:
    path = shop.folder / "mug-1.png"
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:900])


def not_a_vlm(shop) -> None:
    folder = shop.folder / "bert"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    shop.set("model", base=str(folder))


def schema_of(text: str) -> Callable:
    return lambda shop: (shop.folder / "schema.yaml").write_text(text)


SPOILED: dict[str, tuple[Callable, str]] = {
    "a value off the list": (
        label(value="oval"),
        r"labels.jsonl:2 (listing lamp-1): 'oval' is not a value of shape. Use one of: round, square",
    ),
    "an unknown attribute": (
        label(attribute="size"),
        "labels.jsonl:2 (listing lamp-1): lamp has no attribute 'size'. Use one of: shape",
    ),
    "a label for an unknown listing": (
        label(listing="sofa-1"),
        "labels.jsonl:2 (listing sofa-1): a label for an unknown listing",
    ),
    "contradicting splits": (
        lambda shop: (
            (shop.folder / "schema.yaml").write_text(
                (shop.folder / "schema.yaml")
                .read_text()
                .replace("      pattern:", "      size: {values: [s, l]}\n      pattern:")
            ),
            edit(
                "labels.jsonl",
                lambda rows: rows.append({"listing": "mug-0", "attribute": "size", "value": "s", "split": "train"}),
            )(shop),
        ),
        "labels.jsonl:2 (listing mug-0): its labels name different splits: test on line 1, train on line 2",
    ),
    "an unknown vertical": (
        edit("listings.jsonl", lambda rows: rows[5].update(vertical="sofa")),
        "listings.jsonl:6 (listing lamp-2): unknown vertical 'sofa'",
    ),
    "a duplicate id": (
        edit("listings.jsonl", lambda rows: rows.append(rows[0])),
        "listings.jsonl:21 (listing mug-0): duplicate id, first on line 1",
    ),
    "an unknown field": (
        edit("listings.jsonl", lambda rows: rows[1].update(prize=3)),
        "listings.jsonl:2 (lamp-0): prize: unknown key",
    ),
    "a line that is no JSON": (
        lambda shop: (shop.folder / "listings.jsonl").open("a").write("{oops\n"),
        "listings.jsonl:21: not valid JSON",
    ),
    "a listings file that is not there": (
        lambda shop: (shop.folder / "listings.jsonl").unlink(),
        "listings.jsonl: no such file of listings",
    ),
    "an empty listings file": (lambda shop: shop.write("listings.jsonl", []), "listings.jsonl: no listings"),
    "listings in another encoding": (
        edit_bytes("listings.jsonl", lambda data: data.replace(b"mug-2", b"m\xfcg-2")),
        "listings.jsonl:5: not UTF-8 text (byte 9 of the line). Save the file as UTF-8",
    ),
    "labels in another encoding": (
        edit_bytes("labels.jsonl", lambda data: data.replace(b"solid", b"s\xf6lid")),
        "labels.jsonl:1: not UTF-8 text",
    ),
    "a schema in another encoding": (
        edit_bytes("schema.yaml", lambda data: data + b"# \xe9"),
        "schema.yaml: not UTF-8 text",
    ),
    "listings that are no Parquet": (
        lambda shop: shop.set(
            "data", listings=str((shop.folder / "listings.jsonl").rename(shop.folder / "listings.parquet"))
        ),
        "listings.parquet: not a Parquet file that can be read",
    ),
    "a strip for an image": (
        lambda shop: Image.new("1", (5_000, 20)).save(shop.folder / "mug-1.png"),
        "image mug-1.png: 5000 x 20 pixels are a strip",
    ),
    "an empty schema": (schema_of(""), "schema.yaml:1 (verticals): missing. Add it"),
    "a schema without verticals": (schema_of("verticals: {}\n"), "schema.yaml:1 (verticals): "),
    "a schema that is no YAML": (schema_of("verticals: [\n"), "schema.yaml:2: not valid YAML"),
    "a missing image": (lambda shop: (shop.folder / "mug-1.png").unlink(), "listing mug-1, image "),
    "a truncated image": (truncate, "listing mug-1, image mug-1.png: truncated or damaged image"),
    "an image file that is none": (
        lambda shop: (shop.folder / "mug-1.png").write_text("hello"),
        "listing mug-1, image mug-1.png: not an image",
    ),
    "a decompression bomb": (bomb, "listing mug-1, image mug-1.png: "),
    "a huge file": (
        lambda shop: shop.set("data", max_image_bytes=60),
        "larger than 60 bytes. Shrink the image or raise data.max_image_bytes",
    ),
    "a host that is not allowed": (
        set_image("https://evil.example/a.png"),
        "listing mug-1, image https://evil.example/a.png: host 'evil.example' is not allowed",
    ),
    "a scheme that is not fetched": (set_image("file:///etc/passwd"), "scheme 'file' is not fetched"),
    "a vertical without listings": (
        lambda shop: shop.write(
            "listings.jsonl", [row for row in shop.rows("listings.jsonl") if row["vertical"] == "mug"]
        ),
        "listings.jsonl (vertical lamp): no listing of this vertical. Add listings or take it out of the schema",
    ),
    "nothing left to learn from": (
        lambda shop: shop.set("annotate", train_per_vertical=8),
        "no listing of split train is left without a label",
    ),
    "no training labels": (
        lambda shop: shop.set("annotate", train_per_vertical=0),
        "vertical mug: would have no training label (7 of its 10 listings are of split train). "
        "Raise annotate.train_per_vertical",
    ),
    "no training labels and no calls": (
        lambda shop: shop.set("annotate", max_calls=0),
        "vertical lamp: would have no training label (7 of its 10 listings are of split train). "
        "Raise annotate.max_calls",
    ),
    "no training listing": (
        lambda shop: shop.write(
            "listings.jsonl",
            [row for row in shop.rows("listings.jsonl") if row["id"] in ("mug-0", "mug-1", "mug-2", "lamp-1")],
        ),
        "vertical lamp: would have no training label (0 of its 1 listings are of split train). Add listings, or give "
        "labels of it with split: train",
    ),
    "no validation labels": (
        lambda shop: shop.set("annotate", validation_per_vertical=0),
        "no listing gets a validation label, so the loop can choose nothing. Add listings, give labels with",
    ),
    "a cost above the cap": (
        lambda shop: shop.set("annotate", max_cost=0.001),
        "annotate.max_cost: annotation may cost ",
    ),
    "more listings than calls": (
        lambda shop: shop.set("annotate", max_calls=3),
        "annotate.max_calls: 7 listings are to be annotated, the cap is 3 calls",
    ),
    "no key": (
        lambda shop: shop.set("annotate", key_env="NOT_SET_KEY"),
        "no key: the environment variable NOT_SET_KEY is not set. export NOT_SET_KEY=...",
    ),
    "an unreachable endpoint": (
        lambda shop: shop.set("annotate", base_url="http://127.0.0.1:9/v1"),
        "http://127.0.0.1:9/v1: the endpoint is out of reach",
    ),
    "a tracking server that is down": (
        lambda shop: shop.set("tracking", uri="http://127.0.0.1:9"),
        "tracking.uri http://127.0.0.1:9: the tracking server is out of reach",
    ),
    "a plain tracking folder": (
        lambda shop: shop.set("tracking", uri="file:///tmp/mlruns"),
        "Use sqlite:///<path>/mlflow.db",
    ),
    "a tracking database that cannot be made": (
        lambda shop: shop.set("tracking", uri=f"sqlite:///{shop.folder}/schema.yaml/mlflow.db"),
        "schema.yaml is not a folder. Choose another place",
    ),
    "a base model that is not a VLM": (
        not_a_vlm,
        "'bert' is not a vision-language model. Use a model that AutoModelForImageTextToText loads",
    ),
    "a model folder without a config": (lambda shop: shop.set("model", base=str(shop.folder)), "no config.json there"),
    "a hub model that offline cannot be read": (
        lambda shop: shop.set("model", base="nobody/nothing"),
        "model.base nobody/nothing: its config cannot be read",
    ),
    "a LoRA regex that is none": (
        lambda shop: shop.set("model", lora_targets="(oops"),
        "model.lora_targets '(oops': not a regular expression",
    ),
    "a LoRA regex that matches nothing": (
        lambda shop: shop.set("model", lora_targets="nothing"),
        "matches no module of qwen2_5_vl",
    ),
    "a LoRA regex that matches the tower": (
        lambda shop: shop.set("model", lora_targets=r".*\.(qkv|q_proj)"),
        "also matches the vision tower (model.visual.",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPOILED)
def test_each_fault_is_named_with_place_and_remedy(shop, kind):
    spoil, message = SPOILED[kind]
    spoil(shop)
    assert message in found(shop)


def test_all_problems_are_told_at_once(shop):
    for kind in (
        "a value off the list",
        "an unknown vertical",
        "a truncated image",
        "no key",
        "a tracking server that is down",
        "a LoRA regex that matches nothing",
    ):
        SPOILED[kind][0](shop)
    text = found(shop)
    assert all(
        part in text for part in ("'oval'", "'sofa'", "truncated", "no key", "tracking server", "matches no module")
    )


@pytest.mark.parametrize("name", ["ANNOTATOR_KEY", "MLFLOW_TRACKING_TOKEN"])
def test_a_secret_of_two_lines_is_named_and_not_shown(shop, server, name, monkeypatch):
    shop.set("tracking", uri=server.url)
    monkeypatch.setenv(name, "sk-hunter2\nsk-hunter2")
    text = found(shop)
    assert f"the environment variable {name}: holds a line break" in text and "hunter2" not in text


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "the key is refused (HTTP 401). Set the environment variable ANNOTATOR_KEY"),
        (503, "the endpoint is down or overloaded (GET /models answers HTTP 503)"),
    ],
)
def test_an_endpoint_that_refuses_is_a_problem(shop, server, status, message):
    server.statuses["/v1/models"] = status
    assert message in found(shop)


def test_a_tracking_server_is_asked_for_its_health(shop, server):
    shop.set("tracking", uri=server.url)
    assert found(shop) == "" and "/health" in server.asked
    server.statuses["/health"] = 503
    assert "GET /health answers HTTP 503" in found(shop)


def test_values_that_are_spelt_nearly_the_same_are_only_a_note(shop):
    path = shop.folder / "schema.yaml"
    path.write_text(path.read_text().replace("round", "round, Round", 1))
    finding = next(f for f in examine(shop.config(), str(shop.folder)).findings if f.name == "schema")
    assert finding.note and not finding.problems
    assert finding.detail.endswith("; spelt nearly the same: lamp/shape: 'round' and 'Round'")


def test_a_model_that_the_endpoint_does_not_list_is_only_a_note(shop):
    shop.set("annotate", model="another")
    finding = next(f for f in examine(shop.config(), str(shop.folder)).findings if f.name == "annotator")
    assert finding.state == "note" and "does not list another (it lists m)" in finding.detail


def test_without_anything_to_annotate_neither_key_nor_endpoint_is_needed(shop, server):
    rows = [
        {"listing": f"{v}-{k}", "attribute": a, "value": x, "split": split}
        for v, a, x in (("mug", "pattern", "solid"), ("lamp", "shape", "round"))
        for k, split in enumerate(("train", "train", "validation", "test"))
    ]
    shop.write("labels.jsonl", rows)
    shop.set("annotate", key_env="NOT_SET_KEY")
    assert found(shop) == "" and not server.asked
    shop.write("labels.jsonl", rows[:4] + rows[4:7])
    shop.set("annotate", max_calls=0)
    assert found(shop) == "" and not server.asked


def test_counts_that_are_not_reached_are_a_note_with_numbers_and_a_remedy(shop):
    shop.set("annotate", validation_per_vertical=2, test_per_vertical=3)
    finding = next(f for f in examine(shop.config(), str(shop.folder)).findings if f.name == "enough listings")
    assert (finding.state, finding.detail) == (
        "note",
        "9 to be labelled by the API, 10 left without a label to learn from; fewer labels than asked for: "
        "mug/pattern has 1 of 2 validation labels (1 listing is in this split), "
        "mug/pattern has 2 of 3 test labels (2 listings are in this split), "
        "lamp/shape has 1 of 3 test labels (1 listing is in this split). "
        "Add listings, give labels of your own (a split that they name is kept), let the annotator label more, or "
        "lower annotate.*_per_vertical",
    )


def test_a_run_that_no_test_label_is_possible_for_is_refused_unless_it_asks_for_none(shop):
    rows = [
        {"listing": f"{v}-{k}", "attribute": a, "value": x, "split": split}
        for v, a, x in (("mug", "pattern", "solid"), ("lamp", "shape", "round"))
        for k, split in enumerate(("train", "validation"))
    ]
    shop.write("labels.jsonl", rows)
    shop.set("annotate", max_calls=0)
    assert "no listing gets a test label, so nothing can be promoted. Raise annotate.max_calls, give" in found(shop)
    shop.set("annotate", test_per_vertical=0)
    assert found(shop) == ""


def test_a_title_that_is_cut_in_prompts_is_a_note_that_names_the_listing(shop):
    edit("listings.jsonl", lambda rows: rows[3].update(title="mug " * 300_000))(shop)
    outcome = examine(shop.config(), str(shop.folder))
    finding = next(f for f in outcome.findings if f.name == "listings")
    assert (
        finding.state == "note"
        and "the title or metadata of 1 is cut in prompts (first: listing lamp-1)" in finding.detail
    )
    assert not outcome.problems, "and costs no more than a usual one"


def test_labels_that_are_not_used_are_told(shop):
    rows = [{"listing": f"lamp-{k}", "attribute": "shape", "value": "round", "source": "review"} for k in range(10)]
    shop.write("labels.jsonl", rows)
    finding = next(f for f in examine(shop.config(), str(shop.folder)).findings if f.name == "enough listings")
    assert finding.state == "note" and not finding.problems
    assert "listings with labels that are not used: 5 (raise annotate.*_per_vertical)" in finding.detail
    assert "left out, because these are no fair sample: 3 (lamp-1, lamp-3, lamp-5)" in (finding.detail)


def test_a_few_bad_images_are_a_note_below_the_cap(shop):
    (shop.folder / "mug-1.png").write_text("hello")
    shop.set("data", max_bad_images=0.1)
    finding = next(f for f in examine(shop.config(), str(shop.folder)).findings if f.name == "images")
    assert (
        finding.state == "note"
        and "20 of 20 opened, 1 unreadable, e.g. listing mug-1, image mug-1.png: not an image" in finding.detail
    )


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_an_engine_that_is_elsewhere_is_a_note_and_a_rank_it_cannot_hold_a_problem(shop):
    shop.set("sample", engine="vllm")
    finding = next(f for f in examine(shop.config(), str(shop.folder)).findings if f.name == "sampling engine")
    assert finding.state == "note" and "the sampling steps need an image that has it" in finding.detail
    shop.set("model", lora_rank=600)
    assert "model.lora_rank 600: vLLM holds LoRA ranks up to 512, not 600" in found(shop)
    shop.set("sample", engine="transformers")
    assert found(shop) == ""


def test_too_little_disk_is_a_problem(shop):
    shop.set("sample", chains=10**12)
    assert "GB are free, about" in found(shop)


def test_a_workspace_that_cannot_be_made_is_a_problem(shop):
    assert "schema.yaml is not a folder" in found(shop, str(shop.folder / "schema.yaml" / "run"))


def test_a_folder_that_cannot_be_written_is_a_problem(shop):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    shop.folder.chmod(0o500)
    assert "cannot be written" in found(shop, str(shop.folder / "run"))


def test_a_config_with_an_unknown_key_names_its_line(shop):
    path = shop.set("annotate", modell="gpt").file()
    line = next(k for k, text in enumerate(path.read_text().splitlines(), 1) if "modell" in text)
    with pytest.raises(
        InputError, match=rf"run.yaml:{line} \(annotate.modell\): unknown key. Remove it or correct its spelling"
    ):
        load_config(path)
