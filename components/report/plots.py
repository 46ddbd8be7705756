"""The report's plots as small static SVG. They need no script and no network; hovering shows the numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from math import ceil, floor, log10

INK, MUTED, GRID = "#1f2937", "#6b7280", "#e5e7eb"
UP, DOWN = "#0f8a5f", "#c2413b"
_ITERATIONS = ("#7cc4a4", "#2f9e77", "#0b6e4f", "#064b36", "#03291e")
_NAMED = {"base": "#a3acb9", "sft": "#3b6fb6", "start": "#3b6fb6"}
_SPLITS = {  # ink, dashes, shift to the side
    "validation": ("#9aa7b8", 'stroke-dasharray="5 4"', -0.05),
    "test": (INK, "", 0.05),
}
_BOLD = 'font-weight="600"'
Point = tuple[float, float]  # x, y in data coordinates


def colour(stage: str) -> str:
    """A stage's colour in every plot: grey for base, blue for SFT or another start, deepening greens for iterations."""
    number = stage.rsplit("-", 1)[-1]
    return _NAMED.get(stage) or _ITERATIONS[(int(number) - 1 if number.isdigit() else 0) % len(_ITERATIONS)]


def title(stage: str) -> str:
    """A stage's name for people: `Base`, `SFT`, `Iteration 1`."""
    return "SFT" if stage == "sft" else stage.replace("-", " ").capitalize()


@dataclass
class Canvas:
    """An SVG with a plotting area and linear axes.

    Attributes:
        width: in pixels.
        height: in pixels.
        x: low and high of the data across.
        y: low and high of the data upwards.
        left: margin in pixels.
        right: margin in pixels.
        top: margin in pixels.
        bottom: margin in pixels.
        parts: the elements so far.
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
        """Pixels from the left of a value on the x axis."""
        return self.left + (value - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - self.left - self.right)

    def py(self, value: float) -> float:
        """Pixels from the top of a value on the y axis."""
        height = self.height - self.top - self.bottom
        return self.height - self.bottom - (value - self.y[0]) / (self.y[1] - self.y[0]) * height

    def line(self, start: Point, end: Point, stroke: str, *, width: float = 1, extra: str = "") -> None:
        """A straight line between two points."""
        ends = (
            f'x1="{self.px(start[0]):.1f}" y1="{self.py(start[1]):.1f}" '
            f'x2="{self.px(end[0]):.1f}" y2="{self.py(end[1]):.1f}"'
        )
        self.parts.append(f'<line {ends} stroke="{stroke}" stroke-width="{width}" {extra}/>')

    def path(self, points: Sequence[Point], stroke: str, *, extra: str = "") -> None:
        """A line through points."""
        steps = " ".join(f"{self.px(x):.1f},{self.py(y):.1f}" for x, y in points)
        style = f'fill="none" stroke="{stroke}" stroke-width="2" stroke-linejoin="round"'
        self.parts.append(f'<polyline points="{steps}" {style} {extra}/>')

    def dot(self, point: Point, radius: float, fill: str, *, hint: str = "", extra: str = "") -> None:
        """A disc at a point, with a radius in pixels; `hint` shows on hovering."""
        place = f'cx="{self.px(point[0]):.1f}" cy="{self.py(point[1]):.1f}" r="{radius:.1f}"'
        self.parts.append(f'<circle {place} fill="{fill}" {extra}><title>{escape(hint)}</title></circle>')

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        anchor: str = "middle",
        size: int = 12,
        fill: str = MUTED,
        extra: str = "",
    ) -> None:
        """Words at a place in pixels."""
        style = f'text-anchor="{anchor}" font-size="{size}" fill="{fill}"'
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" {style} {extra}>{escape(words)}</text>')

    def grid(self, ticks: Sequence[float], shown: str = "{:.0%}") -> None:
        """Horizontal lines with their values on the left."""
        for tick in ticks:
            self.line((self.x[0], tick), (self.x[1], tick), GRID)
            self.text(self.left - 8, self.py(tick) + 4, shown.format(tick), anchor="end")

    def svg(self, label: str) -> str:
        """The finished picture. Screen readers read the label."""
        head = f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(label)}">'
        return f"{head}{''.join(self.parts)}</svg>"


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values that span [low, high]."""
    raw = max(high - low, 1e-9) / count
    power = 10.0 ** floor(log10(raw))
    step = next(step for step in (1, 2, 2.5, 5, 10) if step * power >= raw - 1e-12) * power
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(k * step, 10) for k in range(first, max(last, first + 1) + 1)]


def stage_lines(stages: Sequence[str], scores: dict[str, dict[str, tuple[float, float, float]]], best: str) -> str:
    """Macro accuracy from stage to stage, one line for each split, with intervals.

    Args:
        stages: all stages, in order.
        scores: split -> stage -> (accuracy, low, high), each in [0, 1].
        best: the stage that gets a star.
    """
    bounds = [bound for by_stage in scores.values() for bound in by_stage.values()]
    ticks = _ticks(max(0.0, min(b[1] for b in bounds) - 0.02), min(1.0, max(b[2] for b in bounds) + 0.02))
    canvas = Canvas(540, 330, (-0.4, len(stages) - 0.45), (ticks[0], ticks[-1]), bottom=52)
    canvas.grid(ticks)
    for split, by_stage in scores.items():
        _split_line(canvas, stages, split, by_stage)
    _numbers(canvas, stages, *list(scores.items())[-1])
    for k, stage in enumerate(stages):
        star, extra = (" ★", _BOLD) if stage == best else ("", "")
        canvas.text(canvas.px(k), canvas.height - 30, title(stage) + star, size=13, fill=INK, extra=extra)
    key = "solid: test · dashed: validation · bars: 95% intervals · ★ best on validation"
    canvas.text(canvas.width / 2, canvas.height - 8, key, size=11)
    return canvas.svg("Macro accuracy by stage")


def _split_line(
    canvas: Canvas, stages: Sequence[str], split: str, by_stage: dict[str, tuple[float, float, float]]
) -> None:
    """The line of a split with a dot and an interval for each of its stages."""
    ink, dashes, shift = _SPLITS[split]
    places = [(k + shift, stage) for k, stage in enumerate(stages) if stage in by_stage]
    canvas.path([(x, by_stage[stage][0]) for x, stage in places], ink, extra=dashes)
    for x, stage in places:
        y, low, high = by_stage[stage]
        canvas.line((x, low), (x, high), ink, width=1.4, extra='opacity="0.65"')
        hint = f"{title(stage)}, {split}: {y:.1%} ({low:.1%} to {high:.1%})"
        rim = f'stroke="{ink}" stroke-width="1.5"'
        canvas.dot((x, y), 6 if split == "test" else 4, colour(stage), hint=hint, extra=rim)


def _numbers(
    canvas: Canvas, stages: Sequence[str], split: str, by_stage: dict[str, tuple[float, float, float]]
) -> None:
    """The accuracies of a split beside their dots, on the side that its line leaves free."""
    places = [(k + _SPLITS[split][2], by_stage[stage][0]) for k, stage in enumerate(stages) if stage in by_stage]
    for (x, y), (_, following) in zip(places, [*places[1:], (0, 1)], strict=True):
        below = 20 if following >= y else -10
        canvas.text(canvas.px(x) + 10, canvas.py(y) + below, f"{y:.1%}", anchor="start", size=13, fill=INK, extra=_BOLD)


def dumbbells(rows: Sequence[tuple[str, dict[str, float]]], before: str, after: str) -> str:
    """One row for each vertical: base as a small grey dot, `before` and `after` with a line between them.

    The line is green where accuracy rose and red where it fell.

    Args:
        rows: (vertical, stage -> accuracy in [0, 1]).
        before: the stage that the line starts from.
        after: the stage that it ends at.
    """
    ordered = sorted(rows, key=lambda row: row[1][after] - row[1][before])
    values = [value for _, by_stage in rows for value in by_stage.values()]
    ticks = _ticks(max(0.0, min(values) - 0.02), min(1.0, max(values) + 0.02))
    canvas = Canvas(
        540, 56 + 22 * len(rows), (ticks[0], ticks[-1]), (-0.7, len(rows) - 0.3), left=124, right=52, top=8, bottom=42
    )
    for tick in ticks:
        canvas.line((tick, canvas.y[0]), (tick, canvas.y[1]), GRID)
        canvas.text(canvas.px(tick), canvas.height - 26, f"{tick:.0%}")
    for k, (vertical, by_stage) in enumerate(ordered):
        start, end = by_stage[before], by_stage[after]
        ink = UP if end > start else DOWN if end < start else MUTED
        y = canvas.py(k) + 4
        canvas.text(canvas.left - 10, y, _short(vertical, 17), anchor="end", fill=INK)
        if "base" in by_stage:
            hint = f"{vertical}, base: {by_stage['base']:.1%}"
            canvas.dot((by_stage["base"], k), 3, colour("base"), hint=hint)
        canvas.line((start, k), (end, k), ink, width=4, extra='stroke-linecap="round" opacity="0.45"')
        canvas.dot((start, k), 5, colour(before), hint=f"{vertical}, {title(before)}: {start:.1%}")
        canvas.dot((end, k), 6, ink, hint=f"{vertical}, {title(after)}: {end:.1%}")
        canvas.text(canvas.width - 4, y, f"{100 * (end - start):+.1f}", anchor="end", fill=ink, extra=_BOLD)
    start_key = "" if before == "base" else f" · blue: {title(before)}"
    key = f"grey: base{start_key} · green or red: {title(after)} · change in points"
    canvas.text(canvas.width / 2, canvas.height - 7, key, size=11)
    return canvas.svg(f"Accuracy per vertical, {title(before)} to {title(after)}")


def _short(words: str, length: int) -> str:
    return words if len(words) <= length else words[: length - 1] + "…"


def diagonal(series: Mapping[str, Sequence[tuple[float, float, float]]], across: str, up: str) -> str:
    """Accuracy against what should predict it (confidence, agreement), with the diagonal of perfect calibration.

    Discs grow with their samples.

    Args:
        series: stage -> (predicted, accuracy, count) points; the first two in [0, 1].
        across: title of the x axis.
        up: title of the y axis.
    """
    canvas = Canvas(400, 340, (0, 1), (0, 1), left=52, bottom=46)
    for k, stage in enumerate(series):
        left, top = canvas.left + 14, canvas.top + 16 + 19 * k
        canvas.parts.append(f'<circle cx="{left}" cy="{top}" r="5" fill="{colour(stage)}"/>')
        canvas.text(left + 11, top + 4, title(stage), anchor="start", fill=INK)
    canvas.grid([0, 0.25, 0.5, 0.75, 1])
    for tick in (0, 0.25, 0.5, 0.75, 1):
        canvas.text(canvas.px(tick), canvas.height - 28, f"{tick:.0%}")
    canvas.line((0, 0), (1, 1), "#9ca3af", width=1.2, extra='stroke-dasharray="4 4"')
    for stage, points in series.items():
        total = sum(count for *_, count in points) or 1
        canvas.path([(x, y) for x, y, _ in points], colour(stage), extra='opacity="0.8"')
        for x, y, count in points:
            radius, hint = 3 + 9 * (count / total) ** 0.5, f"{across} {x:.0%}, {up} {y:.0%}, {count:,.0f} samples"
            canvas.dot((x, y), radius, colour(stage), hint=f"{title(stage)}: {hint}", extra='opacity="0.75"')
    canvas.text((canvas.left + canvas.width) / 2, canvas.height - 8, across)
    canvas.text(14, canvas.height / 2, up, extra=f'transform="rotate(-90 14 {canvas.height / 2:.0f})"')
    return canvas.svg(f"{up} against {across}")


def curves(series: Mapping[str, Sequence[Point]], inks: dict[str, str]) -> str:
    """Lines over training steps, each with its name at its end.

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
        canvas.line((canvas.x[0], 0), (canvas.x[1], 0), "#9ca3af")
    end = canvas.width - canvas.right
    for name, line in series.items():
        canvas.path(line, inks[name])
        canvas.text(end + 6, canvas.py(line[-1][1]) + 4, name, anchor="start", fill=inks[name], extra=_BOLD)
    canvas.text(canvas.left, canvas.height - 10, f"step {min(steps):g}", anchor="start", size=11)
    canvas.text(end, canvas.height - 10, f"step {max(steps):g}", anchor="end", size=11)
    return canvas.svg("Training curves: " + ", ".join(series))
