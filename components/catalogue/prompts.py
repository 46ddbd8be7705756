"""What the model is asked, what it is taught to answer, and how its answer is read from a chain."""

import re
from contextlib import suppress
from dataclasses import dataclass
from json import JSONDecoder
from typing import Any

from attrloop.components.catalogue.records import ALL_IMAGES, Listing
from attrloop.components.catalogue.schema import SEPARATOR, Attribute, Schema

# Of what this module asks, teaches and reads: raise it with every change of that. What was made with it is made anew.
VERSION = 3
MARK = "Answer:"
# Characters of what users write beside the photographs. Shops allow titles of 150 to 200 and descriptions of 5,000; a
# rationale is a sentence or two. What is longer came there by mistake, and would be paid for with every prompt.
LONGEST_TITLE = LONGEST_FACT = 1_000
LONGEST_METADATA = 5_000
LONGEST_RATIONALE = LONGEST_VALUE = 2_000
_CUT = " [...]"  # after text that is cut
_ANSWER = re.compile(
    r"""(?P<markup>[*_`]+)?["']?(?<![^\W_])answers?(?P<quote>["'])?[*_`]*\s*[:：](?(markup)[*_`]*)""",
    re.IGNORECASE | re.VERBOSE,
)
_DASHED = re.compile(
    r"""(?:^|(?<=[.!?\n])|(?<=[.!?]\ ))(?P<markup>[*_`]+)?(?P<quote>(?!))?answers?[*_`]*[ \t]+[-–—=][ \t]+""",
    re.IGNORECASE | re.VERBOSE,
)
# Between the lines of an answer: a line that does not end the list, one that goes on with it, what is said of a value.
_UNFINISHED = re.compile(r"[,;，；、]\s*$")
_ITEM = re.compile(r"\s*(?:[-*][ \t]|\w{1,2}[.)][ \t]|[^\w\s\"'“‘`#<*-]|(?:and|or|plus|also)\b)", re.IGNORECASE)
_ASIDE = re.compile(r"[(,:;]|\s(?:and|or|plus|[&+/|])\s")
_DECODER = JSONDecoder(parse_int=str, parse_float=str)


@dataclass(frozen=True)
class Prompt:
    """What the model is shown and asked.

    Attributes:
        text: the question (see `question`).
        images: what `ImageReader` opens, in order.
    """

    text: str
    images: tuple[str, ...]


def question(listing: Listing, name: str, attribute: Attribute, title: bool, metadata: bool) -> str:
    """The text of a prompt: the listing, the attribute and its closed list.

    Args:
        listing: the product.
        name: of the attribute.
        attribute: its description and values.
        title: whether to show the listing's title.
        metadata: whether to show what else is known of it.
    """
    lines = known_of(listing, " ", title, metadata)
    about = f" ({attribute.description})" if attribute.description else ""
    lines.append(f"What is the {name}{about} of this {listing.vertical}?")
    notes = [f"{value.name}: {value.description}" for value in attribute.values if value.description]
    lines.append(f"Choose {'one or more' if attribute.many else 'one'} of: {', '.join(attribute.names)}.")
    lines += notes
    listed = f" values separated by '{SEPARATOR.strip()}'" if attribute.many else ""
    lines.append(f"Say what you see, then {MARK}{listed}")
    return "\n".join(lines)


def known_of(listing: Listing, between: str, title: bool = True, metadata: bool = True) -> list[str]:
    """The lines of a prompt that show the title and the metadata, each cut where it is too long.

    Args:
        listing: the product.
        between: what stands between a name and its value.
        title: whether to show the title.
        metadata: whether to show the metadata.
    """
    lines = [f"Title: {cut(listing.title, LONGEST_TITLE)}"] if title and listing.title else []
    if metadata and listing.metadata:
        facts = (cut(f"{key}{between}{value}", LONGEST_FACT) for key, value in listing.metadata.items())
        lines.append(f"Known: {cut(', '.join(facts), LONGEST_METADATA)}")
    return lines


def cut(text: str, most: int) -> str:
    """Text of at most `most` characters: a longer one ends at a word, with a mark that it goes on."""
    if len(text) <= most:
        return text
    kept = text[: most - len(_CUT)]
    if not text[len(kept)].isspace() and len(words := kept.rsplit(None, 1)) > 1:
        kept = words[0]
    return kept.rstrip() + _CUT


def is_cut(listing: Listing) -> bool:
    """Whether prompts show only a part of the listing's title or metadata."""
    facts = [len(key) + len(": ") + len(value) for key, value in listing.metadata.items()]
    whole = sum(facts) + len(", ") * (len(facts) - 1)
    return len(listing.title or "") > LONGEST_TITLE or max(facts, default=0) > LONGEST_FACT or whole > LONGEST_METADATA


def messages(text: str, images: int) -> list[dict[str, Any]]:
    """A prompt as chat messages with a place for each image, for the processor's chat template."""
    return [{"role": "user", "content": [{"type": "image"}] * images + [{"type": "text", "text": text}]}]


def completion(rationale: str, value: str) -> str:
    """The text that the model is taught to write for a label: a chain whose answer can be read."""
    rationale = " ".join(rationale.split())
    return f"{rationale} {MARK} {value}" if rationale else f"{MARK} {value}"


def answer_of(text: str, attribute: Attribute) -> str | None:
    """The canonical answer of a chain, which follows the last 'Answer:'; None when it is missing or off the list.

    The mark may be set off as in Markdown, stand in a JSON object, or have a line of its own. Several values may stand
    on several lines.
    """
    mark = _mark(text)
    if mark is None:
        return None
    rest = text[mark.end() :]
    if mark["quote"] and (said := _json(rest)) is not None:
        return attribute.canonical(said)
    lines = [_unmarked(line, attribute, mark["markup"]) for line in rest.split("\n") if line.strip()]
    end = 1
    while attribute.many and end < len(lines) and _goes_on(lines[end - 1], lines[end], attribute):
        end += 1
    return attribute.canonical("\n".join(lines[:end]))


def _unmarked(line: str, attribute: Attribute, markup: str | None) -> str:
    """A line without the end of the markup in which the mark begins."""
    return line if not markup or attribute.canonical(line) else line.strip().removesuffix(markup)


def _goes_on(line: str, following: str, attribute: Attribute) -> bool:
    """Whether the values of an answer go on in the following line. If that has another text, there is no answer."""
    if _UNFINISHED.search(line) or _ITEM.match(following):
        return True
    return any(attribute.canonical(text) for text in (following, _ASIDE.split(following)[0]))


def rationale_of(text: str) -> str:
    """The reasoning of a chain: what stands before the last 'Answer:'."""
    mark = _mark(text)
    return text[: mark.start()].strip() if mark else text.strip()


def _mark(text: str) -> re.Match[str] | None:
    """The last 'Answer:'; where there is none, the last sentence that begins with 'Answer -'."""
    return next((found[-1] for mark in (_ANSWER, _DASHED) if (found := list(mark.finditer(text)))), None)


def _json(text: str) -> str | list[str] | None:
    """The text, or the list of texts, with which a piece of JSON begins; a number is text as written."""
    with suppress(ValueError, RecursionError):
        value, _ = _DECODER.raw_decode(text.lstrip())
        if isinstance(value, str) or (isinstance(value, list) and all(isinstance(part, str) for part in value)):
            return value
    return None


def views_of(listing: Listing, views: str) -> list[int]:
    """The views of a listing that the config's `views` asks for: the `first` image, `all` at once, or `each` alone."""
    return {"first": [0], "all": [ALL_IMAGES], "each": list(range(len(listing.images)))}[views]


def shown(listing: Listing, view: int) -> tuple[str, ...]:
    """The images of a view, which is an image's index or `ALL_IMAGES`."""
    return listing.images if view == ALL_IMAGES else (listing.images[view],)


def tasks_of(listings: list[Listing], schema: Schema) -> list[tuple[Listing, str]]:
    """Every (listing, attribute), in the order of the listings and the schema."""
    return [(listing, attribute) for listing in listings for attribute in schema.verticals[listing.vertical].attributes]
