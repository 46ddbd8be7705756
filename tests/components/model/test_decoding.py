"""Greedy decoding is the model's own, a key decides its chains, and log-probabilities are those of temperature 1."""

import pytest
import torch

from attrloop.components.catalogue import prompts
from attrloop.components.catalogue.prompts import Prompt
from attrloop.components.engines.engine import Decoding, Generation
from attrloop.components.model.decoding import Choose, decode, uniforms
from attrloop.components.model.logprobs import continuation_logprobs
from attrloop.components.model.vlm import Vlm
from tests.components.model.conftest import adapt, prompts_for

LENGTH = 10


@torch.no_grad()
def stock(vlm: Vlm, prompt: Prompt) -> tuple[str, list[float]]:
    """Greedy decoding by `generate` from the processor's inputs: the text and each token's log-probability."""
    images = [vlm.images.open(image) for image in prompt.images]
    chat = vlm.processor.apply_chat_template(
        prompts.messages(prompt.text, len(images)), tokenize=False, add_generation_prompt=True
    )
    inputs = vlm.processor(text=[chat], images=[images], return_tensors="pt", add_special_tokens=False)
    made = vlm.model.generate(
        **inputs, max_new_tokens=LENGTH, do_sample=False, output_scores=True, return_dict_in_generate=True
    )
    ids = made.sequences[0, inputs["input_ids"].shape[1] :]
    logprobs = vlm.model.compute_transition_scores(made.sequences, made.scores, normalize_logits=True)[0]
    return vlm.tokenizer.decode(ids, skip_special_tokens=True).strip(), logprobs.tolist()


@pytest.mark.parametrize("adapted", [False, True])
def test_greedy_decoding_is_what_generate_does(vlm: Vlm, adapted: bool) -> None:
    if adapted:
        adapt(vlm)
    asked = prompts_for(vlm)
    found = dict(vlm.generate(asked, Decoding(LENGTH, batch_size=3)))
    assert sorted(found) == list(range(len(asked)))
    for k, prompt in enumerate(asked):
        text, logprobs = stock(vlm, prompt)
        (made,) = found[k]
        assert made.text == text
        assert made.logprobs == pytest.approx(logprobs, abs=1e-4)
        assert made.tokens == len(made.logprobs) <= LENGTH


def drawn(vlm: Vlm, asked: list[int], batch_size: int, chains: int = 3) -> dict[int, list[Generation]]:
    """Chains of some of the prompts, by the prompt's number, with a key for each prompt."""
    every = prompts_for(vlm)
    made = vlm.generate([every[k] for k in asked], Decoding(LENGTH, batch_size, chains), [f"key {k}" for k in asked])
    return {asked[place]: generations for place, generations in made}


def same(one: list[Generation], other: list[Generation]) -> bool:
    values = ([value for item in chains for value in item.logprobs] for chains in (one, other))
    return [item.text for item in one] == [item.text for item in other] and next(values) == pytest.approx(
        next(values), abs=1e-4
    )


def test_chains_do_not_depend_on_what_is_decoded_beside_them(vlm: Vlm) -> None:
    count = len(prompts_for(vlm))
    together = drawn(vlm, list(range(count)), batch_size=count)
    reversed_ = drawn(vlm, list(reversed(range(count))), batch_size=2)
    for k in range(count):
        assert same(together[k], drawn(vlm, [k], batch_size=1)[k])
        assert same(together[k], reversed_[k])
    assert len({item.text for item in together[0]}) > 1, "chains of one prompt differ"
    assert not same(together[0], next(vlm.generate(prompts_for(vlm)[:1], Decoding(LENGTH, 1, 3), ["another key"]))[1])


def test_more_chains_begin_with_fewer(vlm: Vlm) -> None:
    assert same(drawn(vlm, [0, 1], 2, chains=5)[1][:2], drawn(vlm, [0, 1], 2, chains=2)[1])


@torch.no_grad()
def test_log_probabilities_are_those_of_temperature_one(vlm: Vlm) -> None:
    adapt(vlm)
    inputs, owners = vlm.batch(vlm.encode(prompts_for(vlm)[:2])), torch.tensor([0, 0, 1, 1])
    numbers = torch.cat([uniforms(key, 2, LENGTH) for key in "ab"])
    ids, found = decode(vlm.model, dict(inputs), Decoding(LENGTH, 2, 2, temperature=0.6, top_p=0.9), numbers)
    before_end = (ids == vlm.end).cumsum(1) - (ids == vlm.end).long() == 0
    wanted = continuation_logprobs(vlm.model, inputs, ids, torch.ones_like(ids, dtype=torch.bool), owners)
    torch.testing.assert_close(found[before_end], wanted[before_end], atol=1e-4, rtol=0)
    assert before_end[:, 1].all() and found.std() > 0.05


def test_the_answers_log_probability_is_that_of_what_follows_the_last_mark(vlm: Vlm) -> None:
    texts = ["I see upright bars. Answer: striped Answer: red", "Answer: red", "I see bars."]
    ends, mask = vlm.completions(texts)
    logprobs = -torch.arange(1.0, ends.shape[1] + 1).expand(len(texts), -1)
    made = vlm._generations(ends, logprobs)
    for text, item, ids, kept in zip(texts, made, ends, mask, strict=True):
        tail = (
            vlm.tokenizer(text.rsplit("Answer:", 1)[1], add_special_tokens=False)["input_ids"]
            if "Answer:" in text
            else ids[kept].tolist()[:-1]
        )
        assert item.finished and item.tokens == int(kept.sum()) and item.text == text
        assert item.answer_logprob == pytest.approx(sum(item.logprobs[-len(tail) - 1 :]))


def test_a_chain_may_end_with_any_end_token_of_the_model(vlm: Vlm) -> None:
    ids, _ = vlm.completions(["I see upright bars."])
    other = (vlm.end + 1) % 100
    vlm.ends = [vlm.end, other]
    ids[0, -1] = other
    padded = torch.cat([ids, torch.full((1, 3), vlm.pad)], 1)
    (item,) = vlm._generations(padded, -torch.ones(padded.shape))
    assert item.finished and item.tokens == ids.shape[1] and sum(item.logprobs) == -ids.shape[1]


def test_a_chain_that_the_limit_cuts_is_not_finished(vlm: Vlm) -> None:
    ids, _ = vlm.completions(["I see upright bars."])
    (item,) = vlm._generations(ids[:, :-1], torch.zeros(1, ids.shape[1] - 1))
    assert not item.finished and item.tokens == ids.shape[1] - 1


def frequencies(temperature: float, top_p: float, probabilities: list[float]) -> torch.Tensor:
    """How often each token is drawn over evenly spread uniform numbers."""
    numbers = (torch.arange(2_000) + 0.5)[:, None] / 2_000
    choose = Choose(numbers, temperature, top_p)
    scores = torch.tensor(probabilities).log().expand(2_000, -1)
    chosen = choose(torch.zeros(2_000, 0), scores).argmax(-1)
    logprobs = scores.gather(-1, chosen[:, None]).squeeze(-1)
    torch.testing.assert_close(choose.logprobs[0], logprobs)
    return torch.bincount(chosen, minlength=len(probabilities)) / 2_000


@pytest.mark.parametrize(
    ("temperature", "top_p", "wanted"),
    [
        (1.0, 1.0, [0.1, 0.5, 0.1, 0.3]),
        (0.5, 1.0, [1 / 36, 25 / 36, 1 / 36, 9 / 36]),
        (1.0, 0.75, [0.0, 5 / 8, 0.0, 3 / 8]),
        (1.0, 0.45, [0.0, 1.0, 0.0, 0.0]),
    ],
)
def test_tokens_are_drawn_in_proportion(temperature: float, top_p: float, wanted: list[float]) -> None:
    torch.testing.assert_close(
        frequencies(temperature, top_p, [0.1, 0.5, 0.1, 0.3]), torch.tensor(wanted), atol=2e-3, rtol=0
    )


@pytest.mark.parametrize("number", [0.0, 1 - 2**-24])
def test_the_ends_of_the_unit_interval_draw_a_possible_token(number: float) -> None:
    scores = torch.tensor([[0.0, 0.3, 0.7, 0.0]]).log()
    assert Choose(torch.tensor([[number]]), 1.0, 1.0)(torch.zeros(1, 0), scores).argmax(-1).item() in (1, 2)


def test_random_numbers_belong_to_the_key_and_do_not_change() -> None:
    assert torch.equal(uniforms("a", 3, 4), uniforms("a", 3, 4))
    assert not torch.equal(uniforms("a", 3, 4), uniforms("b", 3, 4))
    assert uniforms("a", 300, 40).min() >= 0 and uniforms("a", 300, 40).max() < 1
