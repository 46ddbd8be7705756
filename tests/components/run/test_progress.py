"""Progress of long work where the output is no terminal."""

import time

import pytest

from attrloop.components.run import progress as module
from attrloop.components.run.progress import progress


def test_lines_are_printed_now_and_then_and_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_EVERY", 0.05)
    with progress("chains", 1200, "listings") as bar:
        for _ in range(12):
            bar.advance(100)
            time.sleep(0.02)
    lines = capsys.readouterr().out.splitlines()
    assert 2 <= len(lines) <= 6 and lines[-1].startswith("chains: 1,200/1,200 ") and lines[-1].endswith(" listings/s")
    assert " s left" in lines[0]


def test_work_of_unknown_length_is_counted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EVERY", 0.0)
    with progress("mining", None, "chains") as bar:
        bar.advance(1000)
        bar.advance(500)
    assert [line.split(" ")[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["mining:", "1,000"],
        ["mining:", "1,500"],
    ]
