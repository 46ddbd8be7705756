import base64
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image

from attrloop.components.catalogue.prompts import rationale_of
from attrloop.components.errors import InputError
from attrloop.components.evaluate.evaluate import evaluate
from attrloop.components.model.vlm import Vlm
from attrloop.components.promote.challenge import evaluate_champion
from attrloop.components.promote.promote import promote
from attrloop.components.register_adapter.register import register
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import EvaluateConfig, ModelConfig, TrackingConfig
from attrloop.components.run.workspace import Workspace
from attrloop.components.tracking.server import fluent
from tests.emulator import move
from tests.tiny import ARCHITECTURES
from tests.tracked import Run, make_run

pytestmark = pytest.mark.slow


def make_real_run(runs: Path, base: Path, name: str = "run", seed: int = 0) -> Run:
    """A run whose adapter is one of a real (random) model."""
    config = EvaluateConfig(bootstrap=50, max_new_tokens=8, batch_size=16)
    run = make_run(
        runs,
        name,
        {"base": 0.3, "sft": 0.6},
        seed=seed,
        gold=10,
        model=ModelConfig(base=str(base), lora_rank=4),
        evaluate=config,
    )
    run.ws.store.remove("sft")
    stage = Artifact(run.ws.store, "sft", {})
    vlm = Vlm.open(run.ws)
    vlm.add_adapter(seed)
    for key, weight in vlm.model.named_parameters():
        if "lora_B" in key:
            weight.data.normal_(std=0.5)
    vlm.model.save_pretrained(stage.folder / "adapter")
    stage.finish("adapter", {"rows": 1, "seconds": 1.0}, ["adapter"])
    return run


@pytest.fixture(params=list(ARCHITECTURES))
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return ARCHITECTURES[request.param](tmp_path / "base")


def decoded(run: Run, stages: dict[str, str]) -> dict[str, pl.DataFrame]:
    """What evaluation decodes on validation, by stage."""
    run.ws.store.remove("evaluate/validation")
    evaluate(run.uri, stages, "validation")
    return {
        stage: pl.read_parquet(Path(run.uri, "evaluate/validation", stage, "predictions.parquet")) for stage in stages
    }


def asked(run: Run, frame: pl.DataFrame) -> list[dict[str, str]]:
    folder, listings = Path(run.ws.config.data.listings).parent, run.ws.listings
    return [
        {
            "image": str(folder / listings[row["listing"]].images[0]),
            "vertical": row["vertical"],
            "attribute": row["attribute"],
        }
        for row in frame.head(8).iter_rows(named=True)
    ]


def test_the_candidate_answers_as_evaluation_did(runs: Path, base: Path) -> None:
    run = make_real_run(runs, base)
    register(run.uri, run.state)
    frames = decoded(run, {"base": "", "sft": "sft/adapter"})
    assert frames["base"]["text"].to_list() != frames["sft"]["text"].to_list(), "the adapter makes a difference here"
    with fluent(f"sqlite:///{runs}/mlflow.db"):
        model = mlflow.pyfunc.load_model("models:/attribute-adapter@candidate")
    said = model.predict(asked(run, frames["sft"]))
    expected = frames["sft"].head(8)
    assert list(said.columns) == ["answer", "confidence", "rationale"]
    assert said["rationale"].tolist() == [rationale_of(text) for text in expected["text"]]
    assert [answer or None for answer in said["answer"]] == expected["answer"].to_list()
    np.testing.assert_allclose(said["confidence"], expected["confidence"], rtol=1e-3)


@pytest.fixture
def model(runs: Path, tmp_path: Path) -> Any:
    run = make_real_run(runs, ARCHITECTURES["qwen2_5_vl"](tmp_path / "base"))
    register(run.uri, run.state)
    with fluent(f"sqlite:///{runs}/mlflow.db"):
        return mlflow.pyfunc.load_model("models:/attribute-adapter@candidate")


def test_images_come_as_paths_or_base64_and_titles_are_optional(model: Any, tmp_path: Path) -> None:
    pictures = []
    for k in range(2):
        noise = np.random.default_rng(k).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{k}.png")
        pictures.append(tmp_path / f"{k}.png")
    encoded = [base64.b64encode(picture.read_bytes()).decode() for picture in pictures]
    row = {"vertical": "rug", "attribute": "trim"}
    paths = model.predict([{"image": str(picture), **row} for picture in pictures])
    assert paths["rationale"][0] != paths["rationale"][1], "the image is looked at"
    bare = model.predict(pd.DataFrame([{"image": text, **row, "title": None} for text in encoded]))
    url = model.predict(
        pd.DataFrame(
            [{"image": f"data:image/png;base64,{text}", **row, "title": "A rug"} for text in encoded], index=[7, 9]
        )
    )
    assert bare["rationale"].tolist() == paths["rationale"].tolist() == url["rationale"].tolist()
    assert url.index.tolist() == [7, 9]
    swapped = model.predict([{"image": text, **row} for text in reversed(encoded)])
    assert swapped["rationale"].tolist() == paths["rationale"].tolist()[::-1], (
        "the request before does not show through"
    )


def test_a_request_that_makes_no_sense_is_named_by_row(model: Any, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG")
    good = {"image": base64.b64encode(buffer.getvalue()).decode(), "vertical": "rug", "attribute": "trim"}
    (tmp_path / "notes.txt").write_text("no picture")
    wrong = {
        r"row 1: unknown vertical 'sofa'.*Café mug": {"vertical": "sofa"},
        r"row 1: rug has no attribute 'size'.*colour": {"attribute": "size"},
        r"no such image file": {"image": "/nowhere/at-all.png"},
        r"row 1: truncated": {"image": base64.b64encode(buffer.getvalue()[:-30]).decode()},
        r"row 1: not an image": {"image": str(tmp_path / "notes.txt")},
        r"row 1: not valid base64": {"image": "data:image/png;base64,????"},
        r"is not allowed": {"image": "https://example.com/a.png"},
    }
    for message, change in wrong.items():
        with pytest.raises(InputError, match=message):
            model.predict([good, good | change])


def test_a_server_can_leave_the_machines_files_alone(model: Any, tmp_path: Path, runs: Path) -> None:
    Image.effect_noise((64, 64), 60).convert("RGB").save(tmp_path / "a.png")
    row = {"image": str(tmp_path / "a.png"), "vertical": "rug", "attribute": "trim"}
    assert len(model.predict([row])) == 1
    with fluent(f"sqlite:///{runs}/mlflow.db"):
        uri, closed = "models:/attribute-adapter@candidate", {"allowed_folders": []}
        served = mlflow.pyfunc.load_model(uri, model_config=closed)
    with pytest.raises(InputError, match=r"a\.png: lies outside"):
        served.predict([row])


def promoted_without_models(run: Run) -> subprocess.CompletedProcess[str]:
    """`promote` as it runs in the worker image, which has nothing to load a model with."""
    absent = ["torch", "transformers", "peft", "trl", "safetensors", "datasets", "accelerate"]
    code = (
        f"import sys; sys.modules |= dict.fromkeys({absent}); "
        "from attrloop.components.promote.promote import promote; print(promote(*sys.argv[1:]))"
    )
    return subprocess.run([sys.executable, "-c", code, run.uri, run.state], capture_output=True, text=True)


@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_the_champion_of_another_run_is_decoded_on_this_runs_gold(
    runs: Path, tmp_path: Path, where: str, request: pytest.FixtureRequest
) -> None:
    base = ARCHITECTURES["qwen2_5_vl"](tmp_path / "base")
    first, second = (
        make_real_run(runs, base, "first"),
        make_real_run(runs, ARCHITECTURES["idefics3"](tmp_path / "other"), "second", seed=3),
    )
    if where == "bucket":
        bucket, tracked = request.getfixturevalue("bucket"), TrackingConfig(uri=f"sqlite:///{runs}/mlflow.db")
        first, second = (
            Run(uri, Workspace.open(uri), run.state)
            for name, run in (("first", first), ("second", second))
            for uri in [move(runs, bucket, name, "annotate", "sft", "evaluate", tracking=tracked)]
        )
    register(first.uri, first.state)
    assert promote(first.uri, first.state) == "first"
    register(second.uri, second.state)
    refused = promoted_without_models(second)
    assert (
        refused.returncode == 1
        and "version 1 became champion after this run was evaluated, or could not be evaluated then" in refused.stderr
    )
    evaluate_champion(second.uri, second.state)
    done = promoted_without_models(second)
    assert done.stdout.strip() == "promoted", done.stderr
    kept = pl.read_parquet(second.ws.store.file("evaluate/test/champion-1/predictions.parquet"))
    assert kept["text"].n_unique() > 1
    evaluate(first.uri, {"sft": "sft/adapter"}, "test")  # anew: the run's own predictions were drawn, not decoded
    truth = pl.read_parquet(first.ws.store.file("evaluate/test/sft/predictions.parquet"))
    assert kept.sort("listing", "attribute")["text"].to_list() == truth.sort("listing", "attribute")["text"].to_list()
