"""When two spellings are the same: a ladder of foldings, each looser than the one before.

A spelling is looked for on every rung of the ladder, the strictest first, so a difference counts wherever a closed list
needs it: `mW` and `MW` are two values of one list, and ` mw. ` is `mW` where there is no `MW`. No rung drops a sign, a
decimal point or an exponent, which would make another number: `-5` is never `5`, nor `10²` `102`.
"""

import re
import unicodedata
from collections.abc import Callable

_SINGLE, _DOUBLE, _DASHES = "‘’‚‛‹›ʹʼˈ′`´＇", "“”„‟«»″ʺ＂", "‐‑‒–—―−﹘﹣－⁃"
# Variation selectors and fillers; other invisible characters are of the category Cf.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_TYPOGRAPHY = str.maketrans(
    {char: "'" for char in _SINGLE}
    | {char: '"' for char in _DOUBLE}
    | {char: "-" for char in _DASHES}
    | {"⁄": "/", "∕": "/", "×": "x", "✕": "x"}
)
_SAME_DIGITS = ("", "<wide>", "<narrow>", "<font>", "<noBreak>")  # the forms that do not change what a digit means
_AFTER_A_DIGIT = {"<super>": "^", "<sub>": "_"}


def seen(text: str) -> str:
    """The text as it looks: without invisible characters, one encoding of accents, single spaces."""
    if text.isascii():
        return " ".join(text.split())
    visible = "".join(char for char in text if unicodedata.category(char) != "Cf" and not _INVISIBLE.match(char))
    return " ".join(unicodedata.normalize("NFC", visible).split())


def _typographic(text: str) -> str:
    """Plain quotes and dashes for typographic ones; two single quotes are a double one."""
    text = re.sub(r"(?<=\d)(\s?)[º˚]", r"\1°", text.translate(_TYPOGRAPHY))
    return text.replace("''", '"')


def _compatible(text: str) -> str:
    """Plain characters for their other forms: full width, ligatures, fractions, superscripts.

    A digit that was raised, lowered or part of a sign does not run into the digits beside it: 10² becomes 10^2, and 1½
    becomes 1 1/2.
    """
    if text.isascii():
        return text
    made, before = "", ""  # `before` is the form of the character before
    for char in text:
        plain, form = unicodedata.normalize("NFKC", char), unicodedata.decomposition(char).partition(" ")[0]
        form = form if form.startswith("<") and form not in _SAME_DIGITS else ""
        number = plain[:1].isdigit() or (form in _AFTER_A_DIGIT and plain[:1] in ("+", "−"))
        goes_on = form == before and form in ("", *_AFTER_A_DIGIT)
        if made[-1:].isdigit() and number and not goes_on:
            made += _AFTER_A_DIGIT.get(form, " ")
        made, before = made + plain, form
    return seen(_typographic(made))


def _with_zeros(text: str) -> str:
    """`.5` is `0.5`."""
    return re.sub(r"(?:^|(?<=[\s(+\-<>≤≥~/]))\.(?=\d)", "0.", text)


_AROUND = re.compile(
    r"""^[*•-]\s+(?=["']?[^\W\d_])|^-(?=[^\W\d_]{2})  # a bullet, but no sign of a number
    |^_+(?=[^\W_])|(?<=[^\W_])_+$
    |^[.,:;!]+(?![\d.,:;!])          # marks before it, but no decimal point
    |[.,:;!。]+$
    |^["'](?=[^\W\d])|(?<=[^\W\d])["']$  # half a pair of quotes, but no feet and inches
    """,
    re.VERBOSE,
)


def _bare(text: str) -> str:
    """Without quotes, marks of Markdown, full stops and the like around it, and without a bullet before it."""
    before = None
    while text != before:
        before = text
        pair = len(text) > 2 and text[0] == text[-1] and text[0] in "\"'*_"
        text = (text[1:-1] if pair else _AROUND.sub("", text)).strip() or text
    return text


def _lower(text: str) -> str:
    return text.lower()


def _caseless(text: str) -> str:
    """Without case in every script; the Turkish i with and without a dot are one letter."""
    return text.casefold().replace("i\u0307", "i").replace("\u0131", "i")


def _spaced(text: str) -> str:
    """Hyphens and underscores between words are spaces. A hyphen before a number may be its sign, or make a range."""
    return re.sub(r"(?<=[^\W_])[\s_-]+(?=[^\W_])", _space, text)


def _space(gap: re.Match[str]) -> str:
    before, after, run = gap.string[gap.start() - 1], gap.string[gap.end()], gap[0]
    if "-" not in run or not after.isdigit():
        return " "
    if run != "-" and run.endswith("-"):
        return run
    return "-" if before.isdigit() else " "


_STEPS: tuple[Callable[[str], str], ...] = (
    seen,
    _typographic,
    _compatible,
    _with_zeros,
    _bare,
    _lower,
    _caseless,
    _spaced,
)


def ladder(text: str) -> list[str]:
    """A spelling on every rung, the strictest first."""
    rungs = []
    for step in _STEPS:
        text = step(text)
        rungs.append(text)
    return rungs


def fold(text: str) -> str:
    """A spelling on the loosest rung: 'Polka-Dot ' and 'polka_dot' both become 'polka dot'."""
    return ladder(text)[-1]
