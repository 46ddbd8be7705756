"""The reference of config and command line, as the documentation shows it."""

import subprocess
import sys

import pytest

from attrloop.components.run.overrides import SETTINGS
from attrloop.pipelines.cli.reference import cli_reference, config_reference


def test_the_config_reference_has_a_row_for_every_setting() -> None:
    rows = [line.split(" | ") for line in config_reference().splitlines() if line.startswith("| `")]
    assert [row[0].strip("|` ") for row in rows] == list(SETTINGS)
    assert all(len(row) == 4 and all(cell.strip(" |") for cell in row) for row in rows)


def test_the_config_reference_says_what_a_setting_may_be() -> None:
    text = config_reference()
    assert "| `sample.top_p` | number > 0, ≤ 1 | `1.0` | " in text
    assert "| `sample.views` | `first`, `all`, `each` | `each` | " in text
    assert "| `data.listings` | string | required | " in text and '| `data.labels` | string | `""` | ' in text


@pytest.mark.parametrize("command", ["run CONFIG", "compile", "review import EXPORT CONFIG", "rollback RUN"])
def test_the_cli_reference_has_every_command_with_its_options(command: str) -> None:
    name, *arguments = command.replace("review ", "review_").split()
    section = cli_reference().split(f"## attrloop {name.replace('_', ' ')}\n")[1].split("\n## ")[0]
    assert section.splitlines()[1] == f"    attrloop {name.replace('_', ' ')} {' '.join(['[OPTIONS]', *arguments])}"
    assert all(f"| `{argument} " in section for argument in arguments) and "--" in section


def test_the_cli_reference_tells_defaults() -> None:
    assert (
        "| `--max-iterations <int range>` | How many iterations the pipeline has room for. [default: 3"
        in cli_reference()
    )


@pytest.mark.parametrize(("what", "title"), [("config", "# Config reference"), ("cli", "# Command line reference")])
def test_both_are_printed_by_the_module(what: str, title: str) -> None:
    command = [sys.executable, "-m", "attrloop.pipelines.cli.reference", what]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith(f"{title}\n")
