"""What a person sees of a run: its steps, one line each, read from the stream that the local runner prints."""

import io
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

_STARTED = re.compile(r"[\d:.]+ - INFO - Executing task '([\w-]+)'")
_ENDED = re.compile(r"[\d:.]+ - \w+ - Task '([\w-]+)' finished with status (\w+)")
_LOGGED = re.compile(r"\[KFP Executor [^]]*\]: ")
_RUNNERS_OWN = ("Looking for component", "Loading KFP component", "Got executor_input", "Wrote executor output")
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_EXPLAINED = re.compile(r"(?:[\w.]+\.)?(?:InputError|AttrloopError): (.*)")
_RAISED = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Full)\b.*")
_INDENT = "    "  # the runner puts it before what a component prints


@dataclass
class Step:
    """One step of the pipeline.

    Attributes:
        label: e.g. `iteration-2 dpo`; "" for the steps that take no time and are not shown.
        state: `running`, `done`, `reused` (nothing was left to do), or `failed`.
        lines: what it printed and logged.
        preamble: whether the runner is just printing the step's input.
    """

    label: str
    begun: float
    state: str = "running"
    seconds: float = 0.0
    lines: list[str] = field(default_factory=list)
    preamble: bool = False

    @property
    def explanation(self) -> str:
        """Why it failed: the message of the error where it is one of ours, else its last words."""
        for k in range(len(self.lines) - 1, -1, -1):
            if found := _EXPLAINED.fullmatch(self.lines[k]):
                return "\n".join([found[1], *self.lines[k + 1 :]]).rstrip()
        raised = [k for k, line in enumerate(self.lines) if _RAISED.fullmatch(line)]
        return (
            "\n".join(self.lines[raised[-1] :]) if raised else "it ended without a message (killed, or out of memory?)"
        )


class Stream(io.TextIOBase):
    """Takes what the local runner prints: all of it goes to `log`, line by line to `on_line`."""

    def __init__(self, log: TextIO, on_line: Callable[[str], None]) -> None:
        self.log, self.on_line, self.rest = log, on_line, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + _COLOUR.sub("", text)).split("\n")
        for line in lines:
            self.log.write(line + "\n")
            self.log.flush()
            self.on_line(line)
        return len(text)


class Progress:
    """The steps of a run, live on a terminal, and as one line a step elsewhere.

    Args:
        labels: what each task of the pipeline is called for people; tasks without one are not shown.
        workspace: the run's folder: a step that finished no stage in it, and says so, reused what it found.
    """

    def __init__(self, labels: dict[str, str], workspace: Path, console: Console) -> None:
        self.labels, self.workspace, self.console = labels, workspace, console
        console.file = console.file  # else rich would follow the redirection of standard output into the log
        self.steps: list[Step] = []
        self.live = Live(
            console=console,
            get_renderable=self._table,
            refresh_per_second=4,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.live.stop()

    @property
    def failed(self) -> Step | None:
        return next((step for step in self.steps if step.state == "failed"), None)

    def on_line(self, line: str) -> None:
        """Takes one line of the runner's output."""
        if found := _STARTED.match(line):
            self.steps.append(Step(self.labels.get(found[1], ""), time.time()))
        elif found := _ENDED.match(line):
            self._end(self.steps[-1], found[2])
        elif self.steps and self.steps[-1].state == "running" and line.startswith(_INDENT):
            self._keep(self.steps[-1], _LOGGED.sub("", line.removeprefix(_INDENT), count=1))

    @staticmethod
    def _keep(step: Step, line: str) -> None:
        """Keeps what the component itself says; the runner first prints its input, as JSON over several lines."""
        if step.preamble:
            step.preamble = line != "}"
        elif line.startswith(_RUNNERS_OWN):
            step.preamble = line.startswith("Got executor_input")
        elif line.strip():
            step.lines.append(line)

    def _end(self, step: Step, status: str) -> None:
        step.seconds = time.time() - step.begun
        reused = any("reusing" in line.casefold() for line in step.lines) and not self._finished_since(step.begun)
        step.state = "failed" if status != "SUCCESS" else "reused" if reused else "done"
        if step.label and not self.console.is_terminal:
            self.console.print(f"{step.label:<26} {step.state:<8} {step.seconds:7.1f} s", highlight=False)

    def _finished_since(self, moment: float) -> bool:
        manifests = (path for depth in ("*", "*/*", "*/*/*") for path in self.workspace.glob(f"{depth}/manifest.json"))
        return any(path.stat().st_mtime >= moment - 0.01 for path in manifests)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(width=26)
        table.add_column(width=8)
        table.add_column(justify="right", width=9)
        table.add_column(no_wrap=True, overflow="ellipsis")
        colours = {"running": "yellow", "done": "green", "reused": "cyan", "failed": "red"}
        for step in self.steps:
            if step.label:
                running = step.state == "running"
                seconds = time.time() - step.begun if running else step.seconds
                words = step.lines[-1].strip() if running and step.lines else ""
                table.add_row(step.label, Text(step.state, colours[step.state]), f"{seconds:.1f} s", Text(words, "dim"))
        return table
