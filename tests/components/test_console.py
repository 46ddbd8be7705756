"""Names from outside are shown as they are."""

import io
from pathlib import Path

import pytest
from rich.progress import BarColumn
from rich.table import Table
from rich.text import Text

from attrloop.components.console import PlainConsole, progress_bar, words
from attrloop.components.errors import fail

NAMES = ("[new] mugs", "[/] mugs", "[red]mugs[/red]", "mugs :cat:", "a\\[b]", "[link=x]y", "100%", "{task.id}", "$x$")


def shown(*parts: object) -> str:
    console = PlainConsole(file=io.StringIO(), width=120)
    for part in parts:
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined] # a StringIO


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_printed_as_it_is_in_lines_and_tables(name: str) -> None:
    table = Table(f"{name} head", title=f"{name} title")
    table.add_row(f"{name} cell")
    table.add_row(Text(f"{name} styled", "green"))
    text = shown(f"{name} line", table)
    assert all(f"{name} {place}" in text for place in ("line", "head", "title", "cell", "styled"))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_printed_as_it_is_beside_a_bar(name: str) -> None:
    with progress_bar(words("{task.description} {task.fields[rate]}"), BarColumn(), disable=True) as bar:
        bar.add_task(name, rate=name)
        assert f"{name} {name}" in shown(bar.make_tasks_table(bar.tasks))


def test_what_a_terminal_would_obey_is_shown_as_its_code() -> None:
    name = "mugs \x1b[31m\x07 \udcff"
    assert r"mugs \x1b[31m\x07 \udcff" in shown(name)
    error = str(fail(name, "what\n", "Do it\r"))
    assert r"mugs \x1b[31m\x07 \udcff: what" in error and "\\r" in error and error.encode()
    assert Path(name).name == name
