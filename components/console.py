"""The one way to write on a terminal: what comes from outside is shown as it is, never read as markup.

A plain `rich.console.Console` drops `[new]` from a name and fails at `[/]`. Colours are given as styles instead, with
`rich.text.Text`.
"""

from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TextColumn
from rich.text import Text
from typing_extensions import override

from attrloop.components.errors import printable


class PlainConsole(Console):
    """A console without markup, emoji codes and highlighting; control characters are shown as their codes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    @override
    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


def words(template: str) -> TextColumn:
    """A column of a progress bar: a format of `task` and its fields."""
    return TextColumn(template, markup=False)


def progress_bar(*columns: ProgressColumn, disable: bool = False) -> Progress:
    """A progress bar whose texts are shown as they are; make columns of text with `words`."""
    return Progress(*columns, console=PlainConsole(), disable=disable)
