"""vLLM's chains are those of the model that transformers runs: the same prompts, texts, probabilities and answers.

Tests that need vLLM run where it is installed: in the sampler image, or with a CPU build (sample_chains/README.md).
"""

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from attrloop.components.catalogue import prompts
from attrloop.components.catalogue.prompts import Prompt
from attrloop.components.engines.chains import sample_listings
from attrloop.components.engines.engine import Decoding
from attrloop.components.engines.registry import open_engine
from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.model.decoding import seed_of
from attrloop.components.model.vllm_engine import VllmEngine, check_adapter
from attrloop.components.run.workspace import Workspace
from attrloop.components.sft.train import ADAPTER, train
from tests.small import change_config, make_workspace
from tests.tiny import qwen2_5_vl

INSTALLED = importlib.util.find_spec("vllm") is not None
needs_vllm = pytest.mark.skipif(
    not INSTALLED, reason="vLLM is not installed: it has pins of its own and lives in the sampler image"
)
STAGE = "iteration-1"


def test_an_adapter_of_the_vision_tower_is_refused(trained: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(trained("qwen2_5_vl") / "run" / ADAPTER, folder)
    assert check_adapter(folder) == 8
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(
        weights | {"base_model.model.model.visual.blocks.0.attn.qkv.lora_A.weight": torch.zeros(4, 32)},
        folder / "adapter_model.safetensors",
    )
    with pytest.raises(
        InputError, match=r"changes the vision tower .*visual.blocks.0.attn.qkv.* which vLLM leaves out"
    ):
        check_adapter(folder)


def test_chains_have_seeds_of_their_own_that_any_run_finds_again() -> None:
    keys = [f"0/iteration-{k}/mug-{n}/colour/{view}" for k in range(3) for n in range(10) for view in range(2)]
    seeds = [seed_of(key) for key in keys]
    assert len({seed + chain for seed in seeds for chain in range(64)}) == len(keys) * 64, (
        "chains count up from the prompt's seed"
    )
    assert all(0 <= seed < 2**63 for seed in seeds) and seed_of("0/iteration-1/mug-7/colour/0") == 3455745391913905690


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small workspace after SFT; its model has heads of a size that vLLM computes."""
    folder = tmp_path_factory.mktemp("vllm")
    train(make_workspace(folder / "own", qwen2_5_vl(folder / "base", heads=1)).store.root)
    return folder / "own"


@pytest.fixture(scope="module")
def engines(catalogue: Path) -> dict[str, Any]:
    """Both engines with SFT's adapter."""
    made = {}
    for engine in ("transformers", "vllm"):
        change_config(catalogue / "run", sample={"engine": engine})
        made[engine] = open_engine(Workspace.open(str(catalogue / "run")), ADAPTER)
    return made


@pytest.fixture
def ws(catalogue: Path) -> Workspace:
    return Workspace.open(str(catalogue / "run"))


def questions(ws: Workspace) -> list[Prompt]:
    tasks = prompts.tasks_of(list(ws.listings.values()), ws.schema)
    return [Prompt(ws.question(listing, name), (image,)) for listing, name in tasks for image in listing.images]


@needs_vllm
def test_greedy_chains_and_their_probabilities_are_those_of_transformers(
    ws: Workspace, engines: dict[str, Any]
) -> None:
    batch = [*questions(ws), *(Prompt(prompt.text, prompt.images * 2) for prompt in questions(ws)[::5])]
    one, two = (dict(engines[name].generate(batch, Decoding(16, 4))) for name in ("transformers", "vllm"))
    assert len({made[0].text for made in one.values()}) > 2
    for k in range(len(batch)):
        (wanted,), (found,) = one[k], two[k]
        assert (found.text, found.tokens, found.finished) == (wanted.text, wanted.tokens, wanted.finished)
        assert found.logprobs == pytest.approx(wanted.logprobs, abs=1e-4) and found.answer_logprob == pytest.approx(
            wanted.answer_logprob, abs=1e-4
        )


@needs_vllm
def test_sampled_chains_have_the_probabilities_and_the_answers_of_transformers(
    ws: Workspace, engines: dict[str, Any]
) -> None:
    more = Workspace(
        ws.store, ws.config.model_copy(update={"sample": ws.config.sample.model_copy(update={"chains": 24})})
    )
    rows = {name: list(sample_listings(more, engines[name], list(ws.listings.values()), STAGE)) for name in engines}
    keys = [sorted((row.listing, row.attribute, row.view, row.chain) for row in made) for made in rows.values()]
    assert keys[0] == keys[1] and len(keys[0]) == 20 * 24
    known: dict[Any, list[float]] = {}  # a text may be several chains of tokens
    for row in rows["transformers"]:
        known.setdefault((row.listing, row.view, row.text, row.tokens), []).append(row.logprob)
    twins = [
        (row.logprob, known[key])
        for row in rows["vllm"]
        if (key := (row.listing, row.view, row.text, row.tokens)) in known
    ]
    alike = sum(min(abs(found - wanted) for wanted in others) < 1e-4 for found, others in twins)
    assert alike > 50 and alike > 0.9 * len(twins), "temperature 0.6 draws, 1 counts"
    votes = [Counter(row.answer for row in made) for made in rows.values()]
    assert sum(abs(votes[0][answer] - votes[1][answer]) for answer in {*votes[0], *votes[1]}) / 2 < 0.1 * len(keys[0])
    lengths = [sum(row.tokens for row in made) for made in rows.values()]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.1)


@needs_vllm
def test_a_seed_gives_its_chains_again_whatever_is_decoded_beside_it(ws: Workspace, engines: dict[str, Any]) -> None:
    batch, engine = questions(ws), engines["vllm"]
    keys = [f"3/{STAGE}/{k}" for k in range(len(batch))]
    whole = dict(engine.generate(batch, Decoding(16, 5, 3, 0.8, 0.9), keys))
    again = dict(engine.generate(batch, Decoding(16, 5, 3, 0.8, 0.9), keys))
    assert whole == again
    assert len({chain.text for made in whole.values() for chain in made}) > 10
    few = dict(engine.generate(batch[7:9], Decoding(16, 5, 3, 0.8, 0.9), keys[7:9]))
    assert [[chain.text for chain in few[k]] for k in (0, 1)] == [
        [chain.text for chain in whole[k + 7]] for k in (0, 1)
    ]
    other = dict(engine.generate(batch, Decoding(16, 5, 3, 0.8, 0.9), [f"4/{key}" for key in keys]))
    assert [made[0].text for made in other.values()] != [made[0].text for made in whole.values()]


@needs_vllm
def test_the_adapter_is_applied(ws: Workspace, engines: dict[str, Any]) -> None:
    base = VllmEngine.load(ws.config.model, ws.images)
    (with_adapter,), (without,) = (
        dict(engine.generate(questions(ws)[:1], Decoding(16, 1)))[0] for engine in (engines["vllm"], base)
    )
    assert with_adapter.logprobs != pytest.approx(without.logprobs, abs=0.1)


@needs_vllm
def test_an_image_as_large_as_the_cap_has_the_tokens_of_the_processor(catalogue: Path, ws: Workspace) -> None:
    """vLLM must not resize it otherwise; one that differs stops the run."""
    Image.effect_noise((300, 150), 60).convert("RGB").save(catalogue / "large.png")
    config = ws.config.model.model_copy(
        update={"max_pixels": 48 * 96, "processor": {"size": {"shortest_edge": 16 * 16, "longest_edge": 96 * 96}}}
    )
    engine = VllmEngine.load(config, ws.images)
    dict(engine.generate([Prompt("Which?", ("large.png",))], Decoding(4, 1)))
    request = {
        "prompt_token_ids": engine.tokens.prompt("Which?", 1),
        "multi_modal_data": {"image": engine._pictures["large.png"]},
    }
    (output,) = engine.llm.generate([request], use_tqdm=False)
    placeholder = engine.tokens.processor.image_token_id
    assert list(output.prompt_token_ids) == engine.tokens.whole("Which?", [engine._pictures["large.png"]])
    assert list(output.prompt_token_ids).count(placeholder) == 18, "48 x 96 pixels in cells of 16 x 16"
    engine._verified = False
    with pytest.raises(InputError, match="vLLM makes other tokens of a prompt than the model's own processor"):
        engine._verify(Prompt("What?", ("large.png",)), output.prompt_token_ids)


@needs_vllm
def test_a_prompt_that_is_too_long_says_what_to_do(ws: Workspace, engines: dict[str, Any]) -> None:
    with pytest.raises(
        AttrloopError, match=r"vLLM refuses a prompt .*Lower model.max_pixels, or set sample.engine: transformers"
    ):
        dict(engines["vllm"].generate([Prompt("word " * 2000, questions(ws)[0].images)], Decoding(16, 1)))


@needs_vllm
def test_a_killed_sampling_goes_on_to_the_same_files(catalogue: Path, tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("undisturbed", "killed")]
    for run in runs:
        shutil.copytree(catalogue / "run", run)
        change_config(run, sample={"engine": "vllm"})
    assert sampling(runs[0]).wait() == 0
    process, folder = sampling(runs[1]), runs[1] / STAGE / "chains"
    while len(list(folder.glob("shard-*.parquet"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {file: file.stat().st_mtime_ns for file in folder.glob("shard-*.parquet")}
    assert 2 <= len(kept) < 5 and not (folder / "manifest.json").exists()
    assert sampling(runs[1]).wait() == 0
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    parts = [
        {file.name: file.read_bytes() for file in (run / STAGE / "chains").glob("shard-*.parquet")} for run in runs
    ]
    assert len(parts[0]) == 5 and parts[0] == parts[1]
    made = pl.read_parquet(runs[0] / STAGE / "chains" / "shard-*.parquet")
    assert (
        made.height == 20 * 3
        and made["answer"].null_count() < 0.9 * made.height
        and made["tokens"].is_between(1, 16).all()
    )


def sampling(run: Path) -> subprocess.Popen[bytes]:
    imports = "from attrloop.components.sample_chains.sample import sample"
    code = f"{imports}; sample({json.dumps(str(run))}, {STAGE!r}, {ADAPTER!r})"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
