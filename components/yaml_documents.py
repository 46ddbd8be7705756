"""Reads YAML that people wrote. Scalars stay text as written: YAML 1.1 makes 969 of 16:9, 8 of 010 and False of no.

Whoever needs a number asks for it with `typed`, which follows the core schema of YAML 1.2.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from attrloop.components.documents import DEPTH, Malformed, unstorable
from attrloop.components.errors import InputError, Problem

_MOST = 1_000_000  # nodes, each alias counted as what it stands for: nine lines of aliases can stand for a billion
_STR, _SEQ, _MAP, _MERGE = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map", "merge"))
_DIGITS = 400  # no float has more than 309 before its point; Python refuses whole numbers with thousands
_INT = re.compile(rf"[-+]?[0-9]{{1,{_DIGITS}}}")
_RADIX = re.compile(r"0(?:o[0-7]{1,99}|x[0-9a-fA-F]{1,99})")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
ODD_SPACE = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")  # looks like a space, and is none to YAML
_PLAIN_SPACES = "Replace it by plain spaces"
_COMMENT = "Close it; what follows # after a space is a comment, so a text with it needs quotes: '#fff'"
# What PyYAML says, and the same in plain words with a remedy.
_PLAINLY = (
    ("constructor for the tag '!!merge'", "<< stands for the keys of another mapping", "Put it in quotes: '<<'"),
    ("constructor for the tag '([^',]*)", r"a text that begins with \1, which names a type", "Put the text in quotes"),
    (
        "expected the node content, but found ','",
        "a comma with nothing before it",
        "Remove it, or put '' or a text there",
    ),
    ("found '<stream end>'", "a bracket that is not closed", _COMMENT),
    (r"expected ',' or '([]}])'", r"a list or mapping in brackets without its \1", _COMMENT),
    (r"character '\\t'", "a tab where spaces are needed", "Indent it with spaces"),
    ("character '(.)' that cannot start", r"a text that begins with \1", "Put the text in quotes"),
    (
        "undefined alias '(.*)'",
        r"*\1 stands for what &\1 names, and nothing is named so",
        "Put a text that begins with * in quotes",
    ),
    ("mapping values are not allowed", "mapping values are not allowed here", "Put a text that holds ': ' in quotes"),
    ("found '<scalar>'", "more text after the end of a text in quotes", "Put the whole text in quotes"),
)
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}


class Plain(str):
    """A scalar that stands without quotes."""

    __slots__ = ()


def typed(value: Any) -> Any:
    """A value of `read_yaml` with its plain scalars as null, booleans and numbers by the core schema of YAML 1.2.

    So 010 is ten, 1e3 a number, and no, 1_000, 1:30 and 1e999 are text.
    """
    if isinstance(value, dict):
        return {str(key): typed(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [typed(entry) for entry in value]
    if not isinstance(value, Plain):
        return value
    if (word := value.lower()) in _WORDS and value in (word, word.capitalize(), word.upper()):
        return _WORDS[word]
    if _INT.fullmatch(value):
        return int(value)
    if _RADIX.fullmatch(value):
        return int(value, 0)
    number = float(value) if len(value) <= _DIGITS and _FLOAT.fullmatch(value) else math.inf
    return number if math.isfinite(number) else str(value)


def read_yaml(text: str, name: str) -> tuple[Any, yaml.Node | None]:
    """What a YAML document says.

    Args:
        text: the document.
        name: of the document in error messages: its file.

    Returns:
        Its value, made of dicts, lists and texts (those without quotes are `Plain`; all keys are texts), and its tree
        of nodes, which knows the lines. Both are None for an empty document.

    Raises:
        Malformed: the syntax is wrong, a text cannot be stored, it is nested deeper than 100 levels, or aliases make it
            larger than a million entries.
        InputError: a mapping has a key twice; every such key, with both lines.
    """
    try:
        loader = _Loader(text)
        tree = loader.get_single_node()
        if tree is None:
            return None, None
        twice = list(_Examination().faults(tree))
        if twice:
            raise InputError([Problem(f"{name}:{line} ({key})", what, "Keep one of them") for line, key, what in twice])
        return loader.construct_document(tree), tree
    except RecursionError as error:
        raise Malformed(f"nested deeper than {DEPTH} levels", "Write it flatter") from error
    except yaml.YAMLError as error:
        raise _malformed(error, text) from error


def _malformed(error: yaml.YAMLError, text: str) -> Malformed:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 1
    what = getattr(error, "problem", None) or str(error).splitlines()[0]
    if isinstance(error, yaml.reader.ReaderError):
        line, what = text.count("\n", 0, error.position) + 1, f"the character U+{error.character:04X} is not allowed"
    written = text.splitlines()[line - 1] if line <= len(text.splitlines()) else ""
    if re.search(rf"(?:^|[-:,{{\[ ]){ODD_SPACE.pattern}", written):
        return Malformed("not valid YAML (a space that is no plain one, such as U+00A0)", _PLAIN_SPACES, line)
    for found, plainly, remedy in _PLAINLY:
        if match := re.search(found, what.replace("tag:yaml.org,2002:", "!!")):
            return Malformed(f"not valid YAML ({match.expand(plainly)})", remedy, line)
    return Malformed(f"not valid YAML ({what})", "Correct the syntax", line)


class _Loader(yaml.SafeLoader):
    """Makes texts, lists and dicts only; merge keys (`<<`) work as they do elsewhere."""

    def construct_text(self, node: yaml.ScalarNode) -> str:
        return node.value if node.style else Plain(node.value)


_Loader.yaml_implicit_resolvers = {"<": [(_MERGE, re.compile("<<$"))]}
_Loader.yaml_constructors = {
    _STR: _Loader.construct_text,
    _SEQ: yaml.SafeLoader.construct_yaml_seq,
    _MAP: yaml.SafeLoader.construct_yaml_map,
    None: yaml.SafeLoader.construct_undefined,
}


class _Examination:
    """Looks at every node of a tree once."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, int]] = {}  # size and height by id of the node; 0, 0 while it is looked at

    def faults(self, node: yaml.Node, path: tuple[str, ...] = ()) -> Iterator[tuple[int, str, str]]:
        """Yields line, key and fault of every key that is there twice.

        Raises:
            Malformed: as `read_yaml`.
        """
        line = node.start_mark.line + 1
        if len(path) > DEPTH:
            raise Malformed(f"nested deeper than {DEPTH} levels", "Write it flatter", line)
        if isinstance(node, yaml.ScalarNode):
            node.value = _whole(node.value, line)
            if not node.style and ODD_SPACE.match(node.value.removeprefix("-")):
                raise Malformed("a space that is no plain one, such as U+00A0, begins the text", _PLAIN_SPACES, line)
        if id(node) in self._seen:
            if self._seen[id(node)] == (0, 0):
                raise Malformed("an alias stands inside of what it stands for", "Write it out", line)
            return
        self._seen[id(node)] = 0, 0
        if isinstance(node, yaml.MappingNode):
            yield from _twice(node, path)
        parts = list(_parts(node))
        for key, part in parts:
            yield from self.faults(part, (*path, key))
        sizes, heights = zip((1, 0), *(self._seen[id(part)] for _, part in parts), strict=True)
        self._seen[id(node)] = sum(sizes), 1 + max(heights)
        if sum(sizes) > _MOST:
            raise Malformed(f"aliases make it larger than {_MOST:,} entries", "Use fewer aliases", line)
        if max(heights) >= DEPTH:
            raise Malformed(f"aliases nest it deeper than {DEPTH} levels", "Use fewer aliases", line)


def _parts(node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield "", key
            yield str(key.value)[:80], value
    elif isinstance(node, yaml.SequenceNode):
        for k, value in enumerate(node.value):
            yield str(k), value


def _twice(node: yaml.MappingNode, path: tuple[str, ...]) -> Iterator[tuple[int, str, str]]:
    first: dict[str, int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            line = key.start_mark.line + 1
            if key.value in first:
                what = f"the key {key.value[:80]!r} is given twice, on lines {first[key.value]} and {line}"
                yield line, ".".join((*path, key.value[:80])), what
            first.setdefault(key.value, line)


def _whole(text: str, line: int) -> str:
    """A text whose halves of characters are put together, as JSON writes an emoji.

    Raises:
        Malformed: a half is alone, or there is a NUL character.
    """
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    if why := unstorable(joined):
        raise Malformed(f"a text {why}", "Write the text whole, in UTF-8", line)
    return joined
