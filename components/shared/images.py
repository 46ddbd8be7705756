"""Reads product images safely: bounded bytes and pixels, allowed hosts and buckets only, whole files only."""

import hashlib
import io
import warnings
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from PIL import Image, ImageOps, UnidentifiedImageError

from attrloop.components.shared import inputs
from attrloop.components.shared.config import DataConfig
from attrloop.components.shared.errors import InputError, Problem, fail
from attrloop.components.shared.storage import SCHEME

_LONGEST = 100  # sides: Qwen's processors refuse an image of more than 200 to 1, and scaling it down before may round the short side


class ImageReader:
    """Opens the images of a catalogue.

    Attributes:
        version: of what `open` makes of a file; features that were kept of another are computed anew.

    Args:
        base: the folder that relative paths start from (the listings file's), local or in a bucket.
        limits: allowed hosts and bounds.
    """

    version = 2

    def __init__(self, base: str | Path, limits: DataConfig) -> None:
        self.base, self.limits = str(base), limits

    @staticmethod
    def of(data: DataConfig) -> "ImageReader":
        """A reader of the images of a run's listings."""
        return ImageReader(inputs.parent(data.listings), data)

    def fetch(self, references: Iterable[str]) -> None:
        """Brings images out of a bucket into the local cache, many at once: for whoever will open them one by one.

        Raises:
            AttrloopError: a bucket that may not be read or cannot be reached.
        """
        paths = (inputs.join(self.base, reference) for reference in references)
        inputs.fetch([path for path in paths if path.startswith(SCHEME) and self._allowed(path)], self.limits.max_image_bytes)

    def _allowed(self, uri: str) -> bool:
        own, bucket = (place.removeprefix(SCHEME).partition("/")[0] for place in (self.base, uri))
        return bucket in self.limits.allowed_hosts or (bucket == own and self.base.startswith(SCHEME))

    def data(self, reference: str) -> bytes:
        """The encoded image.

        Raises:
            InputError: missing, too large, a host or bucket that is not allowed, an unreachable URL.
            AttrloopError: a bucket that may not be read or cannot be reached.
        """
        bound, path = self.limits.max_image_bytes, inputs.join(self.base, reference)
        if "://" not in path or path.startswith(SCHEME):
            if path.startswith(SCHEME) and not self._allowed(path):
                raise fail(path, "this bucket is not allowed", "Add it to data.allowed_hosts if you trust it")
            size = inputs.size(path)
            if size is None:
                raise fail(path, "no such image file", "Correct the path or add the file")
            if size > bound:
                raise fail(path, f"larger than {bound:,} bytes", "Shrink the image or raise data.max_image_bytes")
            return inputs.local(path).read_bytes()
        parts = urlsplit(reference)
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost"):
            raise fail(reference, f"scheme {parts.scheme!r} is not fetched", "Use https, gs or a local path")
        if parts.hostname not in self.limits.allowed_hosts:
            raise fail(reference, f"host {parts.hostname!r} is not allowed", "Add it to data.allowed_hosts if you trust it")
        return self._fetch(reference, bound)

    def _fetch(self, url: str, bound: int) -> bytes:
        data = b""
        try:  # redirects are not followed: they could leave the allowed hosts
            with httpx2.stream("GET", url, timeout=20, follow_redirects=False) as response:
                if response.status_code != 200:
                    raise fail(url, f"HTTP status {response.status_code}", "Check the URL")
                for part in response.iter_bytes():
                    data += part
                    if len(data) > bound:
                        raise fail(url, f"larger than {bound:,} bytes", "Shrink the image or raise data.max_image_bytes")
        except httpx2.HTTPError as error:
            raise fail(url, f"cannot be fetched ({error})", "Check the URL and the network") from error
        return data

    def open(self, reference: str) -> Image.Image:
        """The decoded image, RGB, upright as browsers show it, with transparency on white.

        Raises:
            InputError: as `data`, and for a file that is no image, is truncated, has more than `data.max_image_pixels` pixels, or is a strip.
        """
        data = self.data(reference)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound is checked before decoding
                image: Image.Image = Image.open(io.BytesIO(data))
            if image.width * image.height > self.limits.max_image_pixels:
                raise fail(reference, f"{image.width} x {image.height} pixels (decompression bomb?)", "Shrink it or raise data.max_image_pixels")
            if max(image.size) > _LONGEST * min(image.size):
                raise fail(reference, f"{image.width} x {image.height} pixels are a strip, which models do not take", "Crop it or leave it out")
            image.load()
        except Image.DecompressionBombError as error:
            raise fail(reference, "far too many pixels (decompression bomb?)", "Shrink the image") from error
        except UnidentifiedImageError as error:
            raise fail(reference, "not an image", "Replace it by a JPEG, PNG or WebP file") from error
        except (OSError, SyntaxError, ValueError) as error:
            raise fail(reference, f"truncated or damaged image ({error})", "Replace the file") from error
        with suppress(Exception):  # what is wrong with EXIF alone is no fault of the picture
            ImageOps.exif_transpose(image, in_place=True)
        if "A" in image.getbands() or "transparency" in image.info:
            rgba = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return image.convert("RGB")

    @lru_cache(maxsize=100_000)  # noqa: B019 - a reader lives as long as its component
    def digest(self, reference: str) -> str:
        """SHA-256 (first 16 hex digits) of the encoded image."""
        return hashlib.sha256(self.data(reference)).hexdigest()[:16]

    def jpeg(self, reference: str, side: int) -> bytes:
        """The image as a JPEG (quality 90) whose longest side is at most `side` pixels."""
        image = self.open(reference)
        image.thumbnail((side, side))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    def check(self, reference: str, where: str) -> Problem | None:
        """None when the image opens, else what is wrong with it."""
        try:
            self.open(reference)
        except InputError as error:
            found = error.problems[0]
            return Problem(f"{where}, image {found.where}", found.what, found.remedy)
        return None
