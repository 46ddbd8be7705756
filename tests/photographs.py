"""Drawn pictures with as much detail as photographs, and copies of them as shops make them."""

import io
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw


def photograph(number: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A picture that has nothing in common with those of other numbers."""
    draws = random.Random(number)

    def colour() -> tuple[int, ...]:
        return tuple(draws.randrange(256) for _ in range(3))

    image = Image.new("RGB", size, colour())
    pen = ImageDraw.Draw(image)
    for _ in range(24):
        x, y = draws.randrange(size[0]), draws.randrange(size[1])
        box = (x, y, x + draws.randrange(10, 60), y + draws.randrange(10, 60))
        draws.choice((pen.rectangle, pen.ellipse))(box, fill=colour())
    return image


def recoloured(image: Image.Image) -> Image.Image:
    """The same picture in other colours: no brightness differs."""
    parts = np.asarray(image.convert("YCbCr")).copy()
    parts[..., 1:] = 255 - parts[..., 1:]
    return Image.fromarray(parts, "YCbCr").convert("RGB")


def encoded(image: Image.Image, format_: str, **options: int) -> bytes:
    content = io.BytesIO()
    image.save(content, format_, **options)
    return content.getvalue()


def _scaled(factor: float) -> Callable[[Image.Image], bytes]:
    def scale(image: Image.Image) -> bytes:
        return encoded(image.resize((int(image.width * factor), int(image.height * factor))), "PNG")

    return scale


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "half": _scaled(0.5),
    "quarter": _scaled(0.25),
    "double": _scaled(2),
    "jpeg-50": lambda image: encoded(image, "JPEG", quality=50),
    "jpeg-70": lambda image: encoded(image, "JPEG", quality=70),
    "jpeg-90": lambda image: encoded(image, "JPEG", quality=90),
    "png": lambda image: encoded(image, "PNG"),
    "webp": lambda image: encoded(image, "WEBP", quality=75),
    "avif": lambda image: encoded(image, "AVIF", quality=60),
    "gif": lambda image: encoded(image.convert("P"), "GIF"),
}
