"""A decoded image as people see it: upright, in sRGB with 8 bits a channel, and on white where it is transparent."""

import io
from contextlib import suppress
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms, ImageOps

_SRGB, _LAB = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
# The channels of a profile's colour space, and the modes whose pixels it describes.
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
_ALIKE = 2  # levels of 255: a profile that changes no colour by more is that of sRGB
# What may be white in a grey image: of whole numbers with 8, 12 or 16 bits, whatever they are stored in, or of floats.
_WHITES, _FLOAT_WHITES = (255.0, 4095.0, 65535.0), (1.0, 255.0, 65535.0)
_LEAST = 1 / 8  # of white, which some pixel of floats reaches
_WHITE_IS_KNOWN = ("PNG", "JPEG2000")  # formats in which the greatest number is white; Pillow makes it 65535
_OUTLIERS = 1 / 1000  # of the pixels, at each end of their range: broken pixels and marks for "no value"
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF


def as_shown(image: Image.Image) -> Image.Image:
    """A loaded image in RGB.

    Its colour profile is applied; one that does not fit the image is overlooked, as viewers do.

    Args:
        image: may be changed.

    Raises:
        ValueError: there is no way to RGB from its mode, or all of its values are infinite or not a number.
    """
    profile = image.info.get("icc_profile")
    with suppress(Exception):  # damaged EXIF does not make a damaged picture
        ImageOps.exif_transpose(image, in_place=True)
    alpha = _alpha(image)
    shown = _srgb(_plain(image), profile)
    if alpha is None:
        return shown
    shown.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")


def _alpha(image: Image.Image) -> Image.Image | None:
    """How opaque each pixel is; None if all are."""
    if image.mode.startswith("I;16") and isinstance(image.info.get("transparency"), int):
        return Image.fromarray(np.where(np.asarray(image) == image.info["transparency"], 0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        return image.convert("RGBA").getchannel("A")
    return None


def _plain(image: Image.Image) -> Image.Image:
    """The image in `L`, `RGB`, `CMYK` or `LAB`: in the channels that a profile describes, without transparency."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _grey(image)
    if image.mode in ("1", "LA"):
        return image.convert("L")
    if image.mode == "P":
        image = image.convert("RGBA")  # its palette may have transparent colours
    return image if image.mode in _MODES.values() else image.convert("RGB")


def _grey(image: Image.Image) -> Image.Image:
    """A grey image of floats, or of more than 8 bits, with 8 bits.

    PNG and JPEG 2000 say what is white. For other files it is taken to be the first of the usual values that the image
    does not exceed (and floats come near to). If there is none, the image's own least and greatest value are black and
    white. A few pixels far from all others do not count.
    """
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    if image.mode == "I" and tags.get(_BITS_PER_SAMPLE) == (32,) and tags.get(_SAMPLE_FORMAT, (1,)) == (1,):
        values = values.view(np.uint32)  # which Pillow reads as signed
    values = values.astype(np.float32)
    known = values[np.isfinite(values)]
    if not known.size:
        raise ValueError("no pixel has a value")
    black, white = (0.0, 65535.0) if image.format in _WHITE_IS_KNOWN else _ends(known, image.mode == "F")
    levels = np.nan_to_num((values - black) / (white - black), nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1)
    if tags.get(_PHOTOMETRIC) == 0:  # 0 is white
        levels = 1 - levels
    return Image.fromarray((255 * levels).round().astype(np.uint8))


def _ends(values: np.ndarray, floats: bool) -> tuple[float, float]:
    """What is black and what is white."""
    last = values.size - 1
    few = min(1 + int(_OUTLIERS * last), last // 2)
    ordered = np.partition(values, (few, last - few))
    low, high = float(ordered[few]), float(ordered[last - few])
    usual, least = (_FLOAT_WHITES, _LEAST) if floats else (_WHITES, 0.0)
    white = next((top for top in usual if least * top <= high <= 1.01 * top), None)
    if white is None or low < -0.01 * white:
        return low, high if high > low else low + 1
    return 0.0, white


def _srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An image of `_MODES` in RGB, by its profile if it has one."""
    transform = _to_srgb(profile, image.mode) if profile or image.mode == "LAB" else None
    if transform is None and image.mode == "L" and profile:  # grey in the colours of an RGB profile
        image = image.convert("RGB")
        transform = _to_srgb(profile, "RGB")
    return (ImageCms.applyTransform(image, transform) or image) if transform else image.convert("RGB")


@lru_cache(maxsize=32)  # a catalogue has few profiles, and a transform takes longer to build than to apply
def _to_srgb(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform to sRGB; None where there is nothing to change, or the profile is damaged or of another mode."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile) if profile and mode != "LAB" else _LAB)
        if _MODES.get(source.profile.xcolor_space.strip()) != mode:
            return None
        transform = ImageCms.buildTransform(
            source,
            _SRGB,
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        return None if mode in ("RGB", "L") and _changes_nothing(transform, mode) else transform
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    steps = np.linspace(0, 255, 9 if mode == "RGB" else 256).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3) if mode == "RGB" else steps[None]
    colours = Image.fromarray(grid)
    changed = ImageCms.applyTransform(colours, transform)
    difference = np.asarray(changed, dtype=np.int16) - np.asarray(colours.convert("RGB"), dtype=np.int16)
    return bool(np.abs(difference).max() <= _ALIKE)
