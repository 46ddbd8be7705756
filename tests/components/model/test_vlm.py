"""On three architectures: prompts are encoded as processor and model do it, and adapters leave the tower alone."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from attrloop.components.catalogue import prompts
from attrloop.components.catalogue.images import ImageReader
from attrloop.components.catalogue.prompts import Prompt
from attrloop.components.errors import AttrloopError
from attrloop.components.model.features import noisy
from attrloop.components.model.logprobs import completion_logprobs
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.config import ModelConfig
from tests.components.model.conftest import PROMPTS, adapt, prompts_for

COMPLETIONS = ("I see upright bars. Answer: striped", "Answer: red", "hm", "I see Answer: other")


def stock_inputs(vlm: Vlm, prompt: Prompt, completion: str = "") -> dict[str, torch.Tensor]:
    """A prompt as the model's own processor encodes it."""
    images = [vlm.images.open(image) for image in prompt.images]
    chat = vlm.processor.apply_chat_template(
        prompts.messages(prompt.text, len(images)), tokenize=False, add_generation_prompt=True
    )
    return dict(vlm.processor(text=[chat + completion], images=[images], return_tensors="pt", add_special_tokens=False))


def test_prompts_are_encoded_as_the_processor_does(vlm: Vlm) -> None:
    for prompt, row in zip(prompts_for(vlm), vlm.encode(prompts_for(vlm)), strict=True):
        stock = stock_inputs(vlm, prompt)
        assert row.ids.tolist() == stock["input_ids"][0].tolist()
        if "mm_token_type_ids" in stock:
            assert row.types.tolist() == stock["mm_token_type_ids"][0].tolist()


@torch.no_grad()
def test_completions_in_a_padded_batch_have_the_models_own_log_probabilities(vlm: Vlm) -> None:
    asked = prompts_for(vlm)
    end = vlm.tokenizer.decode([vlm.end])
    found = completion_logprobs(vlm.model, vlm.batch(vlm.encode(asked), COMPLETIONS[: len(asked)]))
    for prompt, text, row in zip(asked, COMPLETIONS, found, strict=False):
        stock = stock_inputs(vlm, prompt, text + end)
        length = stock["input_ids"].shape[1] - stock_inputs(vlm, prompt)["input_ids"].shape[1]
        logprobs = vlm.base(**stock).logits[0, -length - 1 : -1].log_softmax(-1)
        wanted = logprobs.gather(-1, stock["input_ids"][0, -length:, None]).squeeze(-1)
        torch.testing.assert_close(row[:length], wanted, atol=1e-4, rtol=0)
        assert not row[length:].any(), "what is padded counts for nothing"


@torch.no_grad()
def test_the_image_is_looked_at(vlm: Vlm) -> None:
    other = [Prompt(prompt.text, ("3.png",)) for prompt in PROMPTS]
    first, second = (
        completion_logprobs(vlm.model, vlm.batch(vlm.encode(batch), COMPLETIONS[:3])).sum(1)
        for batch in (PROMPTS, other)
    )
    assert (first - second).abs().min() > 1e-4


@torch.no_grad()
def test_feature_noise_is_measured_in_the_features_own_deviations(vlm: Vlm) -> None:
    rows = vlm.encode(PROMPTS)
    batch = vlm.batch(rows, COMPLETIONS[:3])
    clean, blurred, again = (completion_logprobs(vlm.model, noisy(batch, noise)) for noise in (0.0, 1.0, 0.0))
    assert torch.equal(clean, again) and not torch.allclose(clean, blurred, atol=1e-4)
    added = (
        noisy(batch, 0.5)["mm_encoder_outputs"]["image"].pooler_output[0]
        - batch["mm_encoder_outputs"]["image"].pooler_output[0]
    )
    assert added.std().item() == pytest.approx(0.5 * rows[0].images[0].features.std().item(), rel=0.2)


def test_a_lora_adapter_touches_the_language_model_alone(vlm: Vlm) -> None:
    vlm.add_adapter(0)
    trained = [name for name, weight in vlm.model.named_parameters() if weight.requires_grad]
    adapted = {re.sub(r"\.lora_[AB]\.default\.weight$", "", name) for name in trained}
    assert all("lora_" in name for name in trained)
    assert not [name for name in trained if re.search("vision|visual|projector|connector|merger", name)]
    layers = [
        name
        for name, _ in vlm.base.named_modules()
        if re.search(r"(language_model|text_model)\.(.*\.)?layers\.\d+\.(mlp|self_attn)\.\w+_proj$", name)
    ]
    assert len(adapted) == len([name for name in layers if "vision" not in name]) == 2 * 7, (
        "every projection of both layers"
    )


def test_the_tower_gets_no_gradient(vlm: Vlm) -> None:
    adapt(vlm)
    completion_logprobs(vlm.model, vlm.batch(vlm.encode(PROMPTS), COMPLETIONS[:3])).sum().backward()
    with_gradient = [
        name for name, weight in vlm.model.named_parameters() if weight.grad is not None and weight.grad.abs().max() > 0
    ]
    assert with_gradient and all("lora_" in name for name in with_gradient)


@torch.no_grad()
def test_adapters_are_put_on_and_taken_off_without_a_trace(vlm: Vlm, tmp_path: Path) -> None:
    def score() -> torch.Tensor:
        return completion_logprobs(vlm.model, vlm.batch(vlm.encode(PROMPTS), COMPLETIONS[:3]))

    base = score()
    adapt(vlm)
    adapted = score()
    vlm.model.save_pretrained(tmp_path / "adapter")
    vlm.use(None)
    assert torch.equal(score(), base)
    vlm.use(tmp_path / "adapter")
    assert torch.equal(score(), adapted) and not torch.allclose(adapted, base, atol=1e-3)
    vlm.use(tmp_path / "adapter")
    assert torch.equal(score(), adapted), "one adapter replaces another"
    assert not [
        file.name for file in (tmp_path / "adapter").iterdir() if file.suffix in (".bin", ".pt", ".pkl", ".pth")
    ]


def test_a_regex_that_matches_nothing_is_named(base_of: Callable[[str], Path], pictures: ImageReader) -> None:
    vlm = Vlm.load(ModelConfig(base=str(base_of("qwen2_5_vl")), lora_targets="nothing_like_it"), pictures)
    with pytest.raises(AttrloopError, match="'nothing_like_it' matches no layer"):
        vlm.add_adapter(0)


@pytest.mark.parametrize(
    ("architecture", "images"),
    [("qwen2_5_vl", 1), ("qwen2_5_vl", 3), ("idefics3", 1), ("idefics3", 2), ("llava_onevision", 1)],
)
def test_architectures_that_encode_images_one_by_one_pass(
    base_of: Callable[[str], Path], pictures: ImageReader, architecture: str, images: int
) -> None:
    Vlm.load(ModelConfig(base=str(base_of(architecture))), pictures).verify(images)


def test_an_architecture_that_encodes_several_images_together_is_refused(
    base_of: Callable[[str], Path], pictures: ImageReader
) -> None:
    vlm = Vlm.load(ModelConfig(base=str(base_of("llava_onevision"))), pictures)
    with pytest.raises(AttrloopError, match=r"does not encode 2 image.*Use views other than 'all'"):
        vlm.verify(2)


def text_model(folder: Path, base: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    Qwen2ForCausalLM(
        Qwen2Config(vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    ).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, folder)


def no_weights(folder: Path, base: Path) -> None:
    shutil.copytree(base, folder)
    (folder / "model.safetensors").unlink()


def damaged_weights(folder: Path, base: Path) -> None:
    shutil.copytree(base, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])


def pickled_weights(folder: Path, base: Path) -> None:
    shutil.copytree(base, folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def no_processor(folder: Path, base: Path) -> None:
    shutil.copytree(base, folder)
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink()


def unknown_kind(folder: Path, base: Path) -> None:
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "never_heard_of"}))


def no_config(folder: Path, base: Path) -> None:
    folder.mkdir()


@pytest.mark.parametrize(
    "fault", [text_model, no_weights, damaged_weights, pickled_weights, no_processor, unknown_kind, no_config]
)
def test_what_is_no_vision_language_model_is_an_error_that_names_it(
    tmp_path: Path, base_of: Callable[[str], Path], pictures: ImageReader, fault: Callable[[Path, Path], None]
) -> None:
    fault(tmp_path / "base", base_of("qwen2_5_vl"))
    with pytest.raises(AttrloopError, match=re.escape(f"{tmp_path}/base: cannot be loaded as a vision-language model")):
        Vlm.load(ModelConfig(base=str(tmp_path / "base")), pictures)
