"""Draws photographs of products with known values.

Every photograph has a `difficulty`: 0 is a clean studio shot, 1 is a photograph of the demo's catalogue, which is
cluttered, tilted, noisy and of low contrast.
"""

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

IMAGE_SIZE = 64  # pixels; rendered at twice that and averaged down
_CANVAS = 2 * IMAGE_SIZE


def _ring(radius_x: float, radius_y: float, corners: int) -> list[tuple[float, float]]:
    return [
        (radius_x * math.cos(2 * math.pi * k / corners), radius_y * math.sin(2 * math.pi * k / corners))
        for k in range(corners)
    ]


# Outlines as corners in units of the half width and half height, y downwards.
_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "suitcase": [(-0.8, -0.7), (0.8, -0.7), (0.8, 0.9), (-0.8, 0.9)],
    "kurta": [(-0.5, -0.8), (0.5, -0.8), (0.95, -0.2), (0.6, -0.1), (0.7, 1), (-0.7, 1), (-0.6, -0.1), (-0.95, -0.2)],
    "handbag": [(-0.6, -0.3), (0.6, -0.3), (0.95, 0.9), (-0.95, 0.9)],
    "shirt": [
        *((-0.5, -0.8), (0.5, -0.8), (1, -0.4), (0.8, 0), (0.55, -0.15)),
        *((0.55, 0.85), (-0.55, 0.85), (-0.55, -0.15), (-0.8, 0), (-1, -0.4)),
    ],
    "dress": [(-0.35, -0.9), (0.35, -0.9), (0.3, -0.1), (0.9, 1), (-0.9, 1), (-0.3, -0.1)],
    "shoe": [(-0.95, -0.3), (-0.3, -0.5), (0.1, 0.1), (0.95, 0.3), (0.95, 0.7), (-0.95, 0.7)],
    "bedsheet": [(-0.95, -0.75), (0.95, -0.75), (0.95, 0.75), (-0.95, 0.75)],
    "mug": [(-0.6, -0.8), (0.6, -0.8), (0.5, 0.9), (-0.5, 0.9)],
    "watch": _ring(0.75, 0.75, 16),
    "lamp": [(-0.4, -0.5), (0.4, -0.5), (0.9, 0.6), (-0.9, 0.6)],
    "rug": _ring(0.95, 0.65, 12),
    "backpack": [(-0.5, -0.8), (0.5, -0.8), (0.75, -0.3), (0.75, 0.9), (-0.75, 0.9), (-0.75, -0.3)],
}


@dataclass(frozen=True)
class Style:
    """The conditions of photographs. Pairs are ranges (low, high) to draw from; the last three are upper bounds."""

    contrast: tuple[float, float]
    background_value: tuple[float, float]
    background_saturation: tuple[float, float]
    noise: tuple[float, float]
    scale: tuple[float, float]
    thickness: tuple[float, float]
    blur: tuple[float, float]
    rotation: float
    shade: float
    clutter: int

    @staticmethod
    def at(difficulty: float) -> "Style":
        """Interpolates linearly between the clean style (0) and the catalogue's (1), and extrapolates up to 1.5."""

        def mix(clean: float, hard: float) -> float:
            return clean + (hard - clean) * difficulty

        def span(clean: tuple[float, float], hard: tuple[float, float]) -> tuple[float, float]:
            return mix(clean[0], hard[0]), mix(clean[1], hard[1])

        return Style(
            contrast=span((0.45, 0.8), (0.22, 0.55)),
            background_value=span((0.8, 1.0), (0.35, 0.8)),
            background_saturation=span((0.0, 0.12), (0.1, 0.4)),
            noise=span((0, 8), (4, 20)),
            scale=span((0.82, 1.0), (0.62, 0.95)),
            thickness=span((1.0, 1.4), (0.6, 1.1)),
            blur=span((0, 0.4), (0.2, 0.9)),
            rotation=mix(6, 14),
            shade=mix(0.1, 0.4),
            clutter=round(mix(0, 2)),
        )


Colour = tuple[int, int, int]


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return int(red * 255), int(green * 255), int(blue * 255)


@dataclass(frozen=True)
class _Shape:
    """A product's place on the canvas: centre, half width and half height, scale, line thickness, outline, colours."""

    x: float
    y: float
    width: float
    height: float
    scale: float
    line: int
    outline: list[tuple[float, float]]
    body: Colour
    ink: Colour
    badge: Colour

    @property
    def top(self) -> float:
        return min(y for _, y in self.outline)


def render(vertical: str, values: dict[str, str], rng: np.random.Generator, difficulty: float) -> np.ndarray:
    """Draws one photograph of a product.

    Args:
        vertical: one of `world.VERTICALS`.
        values: the value of each family to draw, e.g. `{"pattern": "striped", "upper": "loop"}`.
        rng: decides everything that is not a value: colours, place, tilt, light, clutter, noise.
        difficulty: 0 (clean) to 1.5; see `Style.at`.

    Returns:
        uint8 array of shape [IMAGE_SIZE, IMAGE_SIZE, 3].
    """
    style = Style.at(difficulty)
    background = _hsv(rng.uniform(), rng.uniform(*style.background_saturation), rng.uniform(*style.background_value))
    image = Image.new("RGB", (_CANVAS, _CANVAS), background)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, style.clutter + 1)):
        x, y, r = rng.uniform(0, _CANVAS), rng.uniform(0, _CANVAS), rng.uniform(4, 14)
        colour = _hsv(rng.uniform(), rng.uniform(*style.background_saturation), rng.uniform(*style.background_value))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)([x - r, y - r, x + r, y + r], fill=colour)
    shape = _place(vertical, style, rng)
    edge, upper = values.get("edge"), values.get("upper")
    if edge in ("scalloped", "fringed"):
        _outer_edge(draw, shape, edge, rng)
    if upper in ("loop", "twin"):
        _grips(draw, shape, count=1 if upper == "loop" else 2)
    mask = Image.new("L", (_CANVAS, _CANVAS), 0)
    cut = ImageDraw.Draw(mask)
    cut.polygon(shape.outline, fill=255)
    if upper in ("notched", "rounded"):
        _neck(cut, shape, upper)
    image.paste(_surface(shape, values.get("pattern"), rng), (0, 0), mask)
    if upper == "collared":
        _collar(draw, shape)
    if edge == "piped":
        draw.line([*shape.outline, shape.outline[0]], fill=shape.ink, width=shape.line + 2)
    if values.get("placement", "none") != "none":
        _badge(draw, shape, values["placement"], rng)
    return _photograph(image, background, style, rng)


def _place(vertical: str, style: Style, rng: np.random.Generator) -> _Shape:
    hue, value, saturation = rng.uniform(), rng.uniform(0.35, 0.95), rng.uniform(0.2, 0.9)
    contrast = rng.uniform(*style.contrast) * (-1 if value > 0.6 else 1)
    scale = rng.uniform(*style.scale)
    width, height = _CANVAS * 0.36 * scale, _CANVAS * 0.34 * scale * rng.uniform(0.9, 1.1)
    x, y = _CANVAS / 2 + rng.uniform(-4, 4), _CANVAS * 0.54 + rng.uniform(-3, 3)
    return _Shape(
        x, y, width, height, scale,
        line=max(1, round(3 * rng.uniform(*style.thickness) * scale)),
        outline=[(x + u * width, y + v * height) for u, v in _OUTLINES[vertical]],
        body=_hsv(hue, saturation, value),
        ink=_hsv(hue + rng.uniform(-0.25, 0.25), saturation, value + contrast),
        badge=_hsv(hue + 0.5, saturation, value + contrast),
    )  # fmt: skip


def _outer_edge(draw: ImageDraw.ImageDraw, shape: _Shape, edge: str, rng: np.random.Generator) -> None:
    if edge == "fringed":
        bottom = max(y for _, y in shape.outline)
        xs = [x for x, _ in shape.outline]
        for x in np.arange(min(xs) + 3, max(xs) - 2, 5):
            draw.line(
                [x, bottom - 6, x + rng.uniform(-1, 1), bottom + 10 * shape.scale], fill=shape.ink, width=shape.line
            )
        return
    r = 4.5 * shape.scale
    for (x0, y0), (x1, y1) in zip(shape.outline, shape.outline[1:] + shape.outline[:1], strict=True):
        bumps = max(1, int(math.hypot(x1 - x0, y1 - y0) / 9))
        for k in range(bumps + 1):
            x, y = x0 + (x1 - x0) * k / bumps, y0 + (y1 - y0) * k / bumps
            draw.ellipse([x - r, y - r, x + r, y + r], fill=shape.body)


def _grips(draw: ImageDraw.ImageDraw, shape: _Shape, count: int) -> None:
    half = shape.width * 0.45
    for offset, reach in [(0.0, half)] if count == 1 else [(-half * 0.62, half * 0.5), (half * 0.62, half * 0.5)]:
        x = shape.x + offset
        box = [x - reach, shape.top - 15 * shape.scale, x + reach, shape.top + 13 * shape.scale]
        draw.arc(box, 180, 360, fill=shape.ink, width=shape.line + 1)


def _neck(cut: ImageDraw.ImageDraw, shape: _Shape, upper: str) -> None:
    reach, depth = shape.width * 0.32, shape.height * 0.42
    if upper == "notched":
        cut.polygon(
            [(shape.x - reach, shape.top - 1), (shape.x + reach, shape.top - 1), (shape.x, shape.top + depth)], fill=0
        )
    else:
        cut.ellipse([shape.x - reach, shape.top - depth, shape.x + reach, shape.top + depth * 0.8], fill=0)


def _collar(draw: ImageDraw.ImageDraw, shape: _Shape) -> None:
    reach, top = shape.width * 0.42, shape.top
    for side in (-1, 1):
        wing = [
            (shape.x, top),
            (shape.x + side * reach, top - 5 * shape.scale),
            (shape.x + side * reach * 0.7, top + 15 * shape.scale),
        ]
        draw.polygon(wing, fill=shape.ink)


def _surface(shape: _Shape, pattern: str | None, rng: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", (_CANVAS, _CANVAS), shape.body)
    period = int(rng.uniform(9, 13) * max(shape.scale, 0.75))
    steps = range(int(rng.uniform(0, period)) - period, _CANVAS, period)
    if pattern in _PATTERNS:
        _PATTERNS[pattern](ImageDraw.Draw(image), shape, steps, rng)
    return image


def _stripes(draw: ImageDraw.ImageDraw, shape: _Shape, steps: range, rng: np.random.Generator) -> None:
    for q in steps:
        draw.line([q, 0, q, _CANVAS], fill=shape.ink, width=shape.line)


def _bands(draw: ImageDraw.ImageDraw, shape: _Shape, steps: range, rng: np.random.Generator) -> None:
    for q in steps:
        draw.line([0, q, _CANVAS, q], fill=shape.ink, width=shape.line)


def _checks(draw: ImageDraw.ImageDraw, shape: _Shape, steps: range, rng: np.random.Generator) -> None:
    _stripes(draw, shape, steps, rng)
    _bands(draw, shape, steps, rng)


def _zigzag(draw: ImageDraw.ImageDraw, shape: _Shape, steps: range, rng: np.random.Generator) -> None:
    for q in steps:
        points = [(p, q + (4 if (p // 6) % 2 else -4) * shape.scale) for p in range(0, _CANVAS, 6)]
        draw.line(points, fill=shape.ink, width=shape.line)


def _dots(draw: ImageDraw.ImageDraw, shape: _Shape, steps: range, rng: np.random.Generator) -> None:
    for row, q in enumerate(steps):
        for p in range(steps.start + (row % 2) * steps.step // 2, _CANVAS, steps.step):
            _disc(draw, shape, p, q, shape.line * 0.9)


def _flowers(draw: ImageDraw.ImageDraw, shape: _Shape, steps: range, rng: np.random.Generator) -> None:
    petal = shape.line * 0.9
    for _ in range(26):
        x = rng.uniform(shape.x - shape.width, shape.x + shape.width)
        y = rng.uniform(shape.y - shape.height, shape.y + shape.height)
        for dx, dy in _ring(1.6 * petal, 1.6 * petal, 5):
            _disc(draw, shape, x + dx, y + dy, petal)


def _disc(draw: ImageDraw.ImageDraw, shape: _Shape, x: float, y: float, radius: float) -> None:
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=shape.ink)


_PATTERNS: dict[str, Callable[[ImageDraw.ImageDraw, _Shape, range, np.random.Generator], None]] = {
    "striped": _stripes,
    "banded": _bands,
    "checked": _checks,
    "zigzag": _zigzag,
    "dotted": _dots,
    "floral": _flowers,
}


def _badge(draw: ImageDraw.ImageDraw, shape: _Shape, placement: str, rng: np.random.Generator) -> None:
    u, v = {"center": (0, 0.05), "left": (-0.38, 0.1), "right": (0.38, 0.1), "hem": (0, 0.58)}[placement]
    x, y, r = (
        shape.x + u * shape.width + rng.uniform(-2, 2),
        shape.y + v * shape.height + rng.uniform(-2, 2),
        6.5 * shape.scale,
    )
    draw.rectangle([x - r, y - r, x + r, y + r], fill=shape.badge)


def _photograph(image: Image.Image, background: Colour, style: Style, rng: np.random.Generator) -> np.ndarray:
    image = image.rotate(
        rng.uniform(-style.rotation, style.rotation), fillcolor=background, resample=Image.Resampling.BILINEAR
    )
    blur = rng.uniform(*style.blur)
    if blur > 0.1:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    pixels = np.asarray(image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX), dtype=np.float32)
    ramp, angle = np.linspace(-1, 1, IMAGE_SIZE), rng.uniform(0, 2 * math.pi)
    light = 1 + style.shade * rng.uniform(0, 1) * (ramp[:, None] * math.sin(angle) + ramp[None, :] * math.cos(angle))
    seen = pixels * light[..., None] + rng.normal(0, rng.uniform(*style.noise), pixels.shape)
    return np.clip(seen, 0, 255).astype(np.uint8)
