"""The report's plots as small static SVG: no script, no network, readable in a sandboxed frame; hovering shows the figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from math import ceil, floor, log10

INK, MUTED, GRID = "#1f2937", "#6b7280", "#e5e7eb"
UP, DOWN = "#0f8a5f", "#c2413b"
_ITERATIONS = ("#7cc4a4", "#2f9e77", "#0b6e4f", "#064b36", "#03291e")
_NAMED = {"base": "#a3acb9", "sft": "#3b6fb6", "start": "#3b6fb6"}


def colour(stage: str) -> str:
    """A stage's colour, the same in every plot: grey for base, blue for SFT or another start, deepening greens for the iterations."""
    number = stage.rsplit("-", 1)[-1]
    return _NAMED.get(stage) or _ITERATIONS[(int(number) - 1 if number.isdigit() else 0) % len(_ITERATIONS)]


def title(stage: str) -> str:
    """A stage's name for people: `Base`, `SFT`, `Iteration 1`."""
    return "SFT" if stage == "sft" else stage.replace("-", " ").capitalize()


@dataclass
class Canvas:
    """An SVG with a plotting area and linear axes.

    Attributes:
        x, y: (low, high) of the data.
        left, right, top, bottom: margins in pixels.
    """

    width: int
    height: int
    x: tuple[float, float]
    y: tuple[float, float]
    left: int = 46
    right: int = 16
    top: int = 14
    bottom: int = 34
    parts: list[str] = field(default_factory=list)

    def px(self, value: float) -> float:
        return self.left + (value - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - self.left - self.right)

    def py(self, value: float) -> float:
        return (
            self.height
            - self.bottom
            - (value - self.y[0]) / (self.y[1] - self.y[0]) * (self.height - self.top - self.bottom)
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, stroke: str, width: float = 1, extra: str = "") -> None:
        """A straight line between two points in data coordinates."""
        ends = f'x1="{self.px(x1):.1f}" y1="{self.py(y1):.1f}" x2="{self.px(x2):.1f}" y2="{self.py(y2):.1f}"'
        self.parts.append(f'<line {ends} stroke="{stroke}" stroke-width="{width}" {extra}/>')

    def path(self, points: Sequence[tuple[float, float]], stroke: str, width: float = 2, extra: str = "") -> None:
        """A line through points in data coordinates."""
        steps = " ".join(f"{self.px(x):.1f},{self.py(y):.1f}" for x, y in points)
        self.parts.append(
            f'<polyline points="{steps}" fill="none" stroke="{stroke}" stroke-width="{width}" stroke-linejoin="round" {extra}/>'
        )

    def dot(self, x: float, y: float, radius: float, fill: str, hint: str = "", extra: str = "") -> None:
        """A disc at a point in data coordinates; `hint` shows on hovering."""
        self.parts.append(
            f'<circle cx="{self.px(x):.1f}" cy="{self.py(y):.1f}" r="{radius:.1f}" fill="{fill}" {extra}><title>{escape(hint)}</title></circle>'
        )

    def text(
        self, x: float, y: float, words: str, anchor: str = "middle", size: int = 12, fill: str = MUTED, extra: str = ""
    ) -> None:
        """Words at a point in pixels."""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}" {extra}>{escape(words)}</text>'
        )

    def grid(self, ticks: Sequence[float], shown: str = "{:.0%}") -> None:
        """Horizontal lines with their values on the left."""
        for tick in ticks:
            self.line(self.x[0], tick, self.x[1], tick, GRID)
            self.text(self.left - 8, self.py(tick) + 4, shown.format(tick), "end")

    def svg(self, label: str) -> str:
        """The finished picture; `label` tells what it shows to those who cannot see it."""
        return f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(label)}">{"".join(self.parts)}</svg>'


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values that span [low, high]."""
    raw = max(high - low, 1e-9) / count
    power = 10.0 ** floor(log10(raw))
    step = next(step for step in (1, 2, 2.5, 5, 10) if step * power >= raw - 1e-12) * power
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(k * step, 10) for k in range(first, max(last, first + 1) + 1)]


def stage_lines(stages: Sequence[str], figures: dict[str, dict[str, tuple[float, float, float]]], best: str) -> str:
    """Macro accuracy from stage to stage, one line a split, with intervals.

    Args:
        figures: split -> stage -> (accuracy, low, high), each in [0, 1].
    """
    bounds = [bound for by_stage in figures.values() for bound in by_stage.values()]
    ticks = _ticks(max(0.0, min(b[1] for b in bounds) - 0.02), min(1.0, max(b[2] for b in bounds) + 0.02))
    canvas = Canvas(540, 330, (-0.4, len(stages) - 0.45), (ticks[0], ticks[-1]), bottom=52)
    canvas.grid(ticks)
    styles = {"validation": ("#9aa7b8", 'stroke-dasharray="5 4"', -0.05), "test": ("#1f2937", "", 0.05)}
    for split, by_stage in figures.items():
        ink, dash, shift = styles.get(split, (MUTED, "", 0.0))
        points = [(k + shift, *by_stage[stage], stage) for k, stage in enumerate(stages) if stage in by_stage]
        canvas.path([(x, y) for x, y, *_ in points], ink, 2, dash)
        for x, y, low, high, stage in points:
            canvas.line(x, low, x, high, ink, 1.4, 'opacity="0.65"')
            canvas.dot(
                x,
                y,
                6 if split == "test" else 4,
                colour(stage),
                f"{title(stage)}, {split}: {y:.1%} ({low:.1%} to {high:.1%})",
                f'stroke="{ink}" stroke-width="1.5"',
            )
            if split == list(figures)[-1]:
                coming = [
                    later
                    for later, *_ in (by_stage[name] for name in stages[stages.index(stage) + 1 :] if name in by_stage)
                ]
                rising = not coming or coming[0] >= y  # the words keep clear of the line that goes on from here
                canvas.text(
                    canvas.px(x) + 10,
                    canvas.py(y) + (20 if rising else -10),
                    f"{y:.1%}",
                    "start",
                    13,
                    INK,
                    'font-weight="600"',
                )
    for k, stage in enumerate(stages):
        canvas.text(
            canvas.px(k),
            canvas.height - 30,
            title(stage) + (" ★" if stage == best else ""),
            size=13,
            fill=INK,
            extra='font-weight="600"' if stage == best else "",
        )
    canvas.text(
        canvas.width / 2,
        canvas.height - 8,
        "solid: test · dashed: validation · bars: 95% intervals · ★ best on validation",
        size=11,
    )
    return canvas.svg("Macro accuracy by stage")


def dumbbells(rows: Sequence[tuple[str, dict[str, float]]], before: str, after: str) -> str:
    """One row a vertical: base as a small grey dot, `before` and `after` joined by a line that is green when accuracy rose, red when it fell.

    Args:
        rows: (vertical, stage -> accuracy in [0, 1]).
    """
    ordered = sorted(rows, key=lambda row: row[1][after] - row[1][before])
    values = [value for _, by_stage in rows for value in by_stage.values()]
    ticks = _ticks(max(0.0, min(values) - 0.02), min(1.0, max(values) + 0.02))
    canvas = Canvas(
        540, 56 + 22 * len(rows), (ticks[0], ticks[-1]), (-0.7, len(rows) - 0.3), left=124, right=52, top=8, bottom=42
    )
    for tick in ticks:
        canvas.line(tick, canvas.y[0], tick, canvas.y[1], GRID)
        canvas.text(canvas.px(tick), canvas.height - 26, f"{tick:.0%}")
    for k, (vertical, by_stage) in enumerate(ordered):
        start, end = by_stage[before], by_stage[after]
        ink = UP if end > start else DOWN if end < start else MUTED
        canvas.text(canvas.left - 10, canvas.py(k) + 4, _short(vertical, 17), "end", 12, INK)
        if "base" in by_stage:
            canvas.dot(by_stage["base"], k, 3, colour("base"), f"{vertical}, base: {by_stage['base']:.1%}")
        canvas.line(start, k, end, k, ink, 4, 'stroke-linecap="round" opacity="0.45"')
        canvas.dot(start, k, 5, colour(before), f"{vertical}, {title(before)}: {start:.1%}")
        canvas.dot(end, k, 6, ink, f"{vertical}, {title(after)}: {end:.1%}")
        canvas.text(
            canvas.width - 4, canvas.py(k) + 4, f"{100 * (end - start):+.1f}", "end", 12, ink, 'font-weight="600"'
        )
    start_key = "" if before == "base" else f" · blue: {title(before)}"
    canvas.text(
        canvas.width / 2,
        canvas.height - 7,
        f"grey: base{start_key} · green or red: {title(after)} · change in points",
        size=11,
    )
    return canvas.svg(f"Accuracy per vertical, {title(before)} to {title(after)}")


def _short(words: str, length: int) -> str:
    return words if len(words) <= length else words[: length - 1] + "…"


def diagonal(series: Mapping[str, Sequence[tuple[float, float, float]]], across: str, up: str) -> str:
    """Accuracy against what should foretell it (confidence, agreement), beside the diagonal of perfect calibration; discs grow with their samples.

    Args:
        series: stage -> (foretold, accuracy, count) points, shares in [0, 1].
    """
    canvas = Canvas(400, 340, (0, 1), (0, 1), left=52, bottom=46)
    for k, stage in enumerate(series):
        canvas.parts.append(
            f'<circle cx="{canvas.left + 14}" cy="{canvas.top + 16 + 19 * k}" r="5" fill="{colour(stage)}"/>'
        )
        canvas.text(canvas.left + 25, canvas.top + 20 + 19 * k, title(stage), "start", 12, INK)
    canvas.grid([0, 0.25, 0.5, 0.75, 1])
    for tick in (0, 0.25, 0.5, 0.75, 1):
        canvas.text(canvas.px(tick), canvas.height - 28, f"{tick:.0%}")
    canvas.line(0, 0, 1, 1, "#9ca3af", 1.2, 'stroke-dasharray="4 4"')
    for stage, points in series.items():
        total = sum(count for *_, count in points) or 1
        canvas.path([(x, y) for x, y, _ in points], colour(stage), 2, 'opacity="0.8"')
        for x, y, count in points:
            canvas.dot(
                x,
                y,
                3 + 9 * (count / total) ** 0.5,
                colour(stage),
                f"{title(stage)}: {across} {x:.0%}, {up} {y:.0%}, {count:,.0f} samples",
                'opacity="0.75"',
            )
    canvas.text((canvas.left + canvas.width) / 2, canvas.height - 8, across, size=12)
    canvas.text(14, canvas.height / 2, up, size=12, extra=f'transform="rotate(-90 14 {canvas.height / 2:.0f})"')
    return canvas.svg(f"{up} against {across}")


def curves(series: Mapping[str, Sequence[tuple[float, float]]], inks: dict[str, str]) -> str:
    """Lines over training steps, each named at its end.

    Args:
        series: name -> (step, value) points.
        inks: name -> colour.
    """
    points = [point for line in series.values() for point in line]
    ticks = _ticks(min(y for _, y in points), max(y for _, y in points), 4)
    steps = [x for x, _ in points]
    canvas = Canvas(400, 230, (min(steps), max(max(steps), min(steps) + 1)), (ticks[0], ticks[-1]), left=52, right=76)
    canvas.grid(ticks, "{:g}")
    if ticks[0] < 0 < ticks[-1]:
        canvas.line(canvas.x[0], 0, canvas.x[1], 0, "#9ca3af")
    for name, line in series.items():
        canvas.path(line, inks[name], 2)
        canvas.text(
            canvas.width - canvas.right + 6,
            canvas.py(line[-1][1]) + 4,
            name,
            "start",
            12,
            inks[name],
            'font-weight="600"',
        )
    canvas.text(canvas.left, canvas.height - 10, f"step {min(steps):g}", "start", 11)
    canvas.text(canvas.width - canvas.right, canvas.height - 10, f"step {max(steps):g}", "end", 11)
    return canvas.svg("Training curves: " + ", ".join(series))
