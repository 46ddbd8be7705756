"""Checks that what the model is to write fits into the tokens that it may write."""

from collections.abc import Iterator
from dataclasses import dataclass

from attrloop.components.catalogue.prompts import completion
from attrloop.components.catalogue.schema import Schema
from attrloop.components.engines.lengths import token_counts
from attrloop.components.errors import Problem
from attrloop.components.preflight.data import Catalogue
from attrloop.components.preflight.finding import Finding
from attrloop.components.run.config import RunConfig


@dataclass(frozen=True)
class _Target:
    """A text that the model is to write.

    Attributes:
        attribute: (vertical, attribute).
        listing: whose label it is; "" for a value alone.
        value: the value that it ends with.
        text: the whole text.
    """

    attribute: tuple[str, str]
    listing: str
    value: str
    text: str


def check_targets(config: RunConfig, catalogue: Catalogue) -> Finding:
    """No value of the schema, and no label to train on, has more tokens than a chain or an answer may have."""
    finding = Finding("lengths of answers")
    if catalogue.schema is None:
        finding.detail, finding.note = "not checked: fix the schema first", True
        return finding
    targets = [*_values(catalogue.schema), *_labels(catalogue)]
    counts = token_counts(config.model.base, config.model.revision, [target.text for target in targets])
    if counts is None:
        finding.detail, finding.note = "not checked: no tokenizer.json of the base model can be read here", True
        return finding
    limits = {
        "sample.max_new_tokens": config.sample.max_new_tokens,
        "evaluate.max_new_tokens": config.evaluate.max_new_tokens,
    }
    finding.detail = f"at most {max(counts)} tokens ({', '.join(f'{name} = {most}' for name, most in limits.items())})"
    long: dict[tuple[tuple[str, str], bool], list[tuple[int, _Target]]] = {}
    for count, target in zip(counts, targets, strict=True):
        if count > min(limits.values()):
            long.setdefault((target.attribute, bool(target.listing)), []).append((count, target))
    for (_, labelled), found in long.items():
        count, longest = max(found, key=lambda one: one[0])
        finding.problems.append(_problem(config, labelled, len(found), count, longest))
    return finding


def _values(schema: Schema) -> Iterator[_Target]:
    for vertical, attribute in schema.tasks():
        for value in schema.attribute(vertical, attribute).names:
            yield _Target((vertical, attribute), "", value, completion("", value))


def _labels(catalogue: Catalogue) -> Iterator[_Target]:
    """The labels that the user gave, but for those of the test split, which are never trained on."""
    for label in catalogue.plan.given if catalogue.plan else catalogue.labels:
        if label.split != "test":
            vertical = catalogue.listings[label.listing].vertical
            text = completion(label.rationale, label.value)
            yield _Target((vertical, label.attribute), label.listing, label.value, text)


def _problem(config: RunConfig, labelled: bool, many: int, tokens: int, longest: _Target) -> Problem:
    short = {
        f"{name}.max_new_tokens": section.max_new_tokens
        for name, section in (("sample", config.sample), ("evaluate", config.evaluate))
        if section.max_new_tokens < tokens
    }
    than = " and ".join(f"{name} = {most}" for name, most in short.items())
    place = "/".join(longest.attribute)
    if labelled:
        where = f"{config.data.labels} (listing {longest.listing}, {place})"
        what = f"what the model is to write has {tokens} tokens, more than {than}: it would be cut off"
        instead = "shorten the rationale"
    else:
        where = f"{config.data.catalogue_schema} ({place}, value {longest.value!r})"
        what = f"the answer alone has {tokens} tokens, more than {than}: no chain could give it"
        instead = "give the value a shorter name"
    others = f" ({many} {'labels' if labelled else 'values'} of this attribute are too long)" if many > 1 else ""
    return Problem(where, what + others, f"Set {' and '.join(short)} to at least {tokens}, or {instead}")
