"""Texts that the language model of the demo's base learns from: captions of photographs, and lessons without one."""

import random

from attrloop.components.catalogue import prompts
from attrloop.components.catalogue.records import Listing
from attrloop.components.catalogue.schema import Attribute
from attrloop.components.catalogue.spelling import fold
from attrloop.pipelines.demo.training.words import RETAIL_WORDS
from attrloop.pipelines.demo.world import FAMILIES, VERTICALS

Lesson = tuple[str, str]  # the prompt's text, the target's text


def _ask(vertical: str, name: str, description: str, values: list[str]) -> str:
    listing = Listing(id="x", vertical=vertical, images=("x",))
    return prompts.question(
        listing, name, Attribute(description=description, values=tuple(values)), title=False, metadata=False
    )


def caption(rng: random.Random, vertical: str, values: dict[str, str]) -> Lesson:
    """What a photograph shows, in words of evidence."""
    families = rng.sample(list(values), len(values))
    seen = [rng.choice(FAMILIES[family].evidence[values[family]]) for family in families]
    form = rng.random()
    if form < 0.5:
        return "Describe this.", f"A {vertical} with {seen[0]} and {seen[1]}."
    if form < 0.75:
        return "Describe this.", f"I see {seen[0]} and {seen[1]}. It is a {vertical}."
    return f"Look at the {FAMILIES[families[0]].attribute} of this {vertical}.", f"I see {seen[0]}."


def definition(rng: random.Random) -> Lesson:
    """Which evidence means which value."""
    family = FAMILIES[rng.choice(list(FAMILIES))]
    value = rng.choice(family.values)
    seen = rng.choice(family.evidence[value])
    form = rng.random()
    if form < 0.5:
        return f"What is {seen}?", f"{seen} means {value}"
    if form < 0.8:
        return f"What is {value}?", f"{value} {family.attribute} is where {seen} is seen"
    return f"What {family.attribute} is {seen}?", f"{value} is another name for {seen}"


def comprehension(rng: random.Random) -> Lesson:
    """A question with a closed list, answered from a description instead of a photograph."""
    family = FAMILIES[rng.choice(list(FAMILIES))]
    values = rng.sample(family.values, rng.randint(3, min(6, len(family.values))))
    value = rng.choice(values)
    other = FAMILIES[rng.choice([name for name in FAMILIES if FAMILIES[name] is not family])]
    evidence = [rng.choice(family.evidence[value]), rng.choice(other.evidence[rng.choice(other.values)])]
    seen = evidence[0]
    rng.shuffle(evidence)
    text = _ask(rng.choice(list(VERTICALS)), family.attribute, family.description, values)
    return f"There is {' and '.join(evidence)}.\n{text}", prompts.completion(f"I see {seen}.", value)


def copying(rng: random.Random) -> Lesson:
    """The same with any words: the answer is the listed word that the description names."""
    words = list({fold(word): word for word in rng.sample(RETAIL_WORDS, 10)}.values())[: rng.randint(5, 9)]
    vertical, name, values = words[0], words[1], words[2:]
    value = rng.choice(values)
    return f"There is {value}.\n{_ask(vertical, name, '', values)}", prompts.completion(f"I see {value}.", value)
