"""Reads product images safely: whole ones, of few formats, bounded in bytes and pixels, from allowed places."""

import hashlib
import io
import os
import re
import warnings
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol

from PIL import Image, UnidentifiedImageError

from attrloop.components.catalogue.colours import as_shown
from attrloop.components.errors import InputError, Problem, fail
from attrloop.components.secrets import public
from attrloop.components.storage import inputs, urls
from attrloop.components.storage.buckets import in_bucket, locate, scheme

# Longest allowed ratio of the sides. Qwen's processors refuse more than 200 to 1, and scaling an image down may round
# its short side to less.
_LONGEST = 100
# Pillow warns of images that are large, for which there is a bound of ours, and of damaged tags that change no pixel.
warnings.filterwarnings("ignore", module=r"PIL\.")
# What is read. Pillow knows many more formats: some run other programs (EPS), most have decoders that few people test.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000")
# The beginnings of other files that stand for images by mistake, in lower case.
_OTHERS = {
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"<?xml": "an XML or SVG file",
    b"<svg": "an SVG file",
    b"%pdf": "a PDF document",
    b"%!ps": "a PostScript file",
    b"8bps": "a Photoshop file",
    b"pk\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip file",
    b"version https://git-lfs": "a pointer of Git LFS",
}


class ImageLimits(Protocol):
    """Which images are allowed. `DataConfig` has these fields."""

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """Hosts and buckets that images may come from, besides the bucket of the listings."""

    @property
    def allowed_folders(self) -> tuple[str, ...]:
        """Local folders that images may lie in, besides the folder of the listings."""

    @property
    def max_image_bytes(self) -> int:
        """Most bytes of an encoded image."""

    @property
    def max_image_pixels(self) -> int:
        """Most pixels of an image."""


class ImageReader:
    """Opens the images of a catalogue.

    Attributes:
        version: changes whenever `open` decodes a file differently. Features that were cached under another version
            are computed anew.

    Args:
        base: the folder that relative paths start from (the listings file's), local or in a bucket.
        limits: allowed hosts, buckets and folders, and bounds.
    """

    version = 4

    def __init__(self, base: str | Path, limits: ImageLimits) -> None:
        self.base, self.limits = str(base), limits
        self._real: dict[str, str] = {}  # folders of images, and where their links lead: costly to find out

    def fetch(self, references: Iterable[str]) -> None:
        """Brings images from buckets and hosts into the local cache, many at once, so that opening them is fast.

        Raises:
            AttrloopError: a bucket that may not be read or cannot be reached.
        """
        objects, web = self._remote(references)
        inputs.fetch(objects, self.limits.max_image_bytes)
        urls.fetch(web, self.limits.max_image_bytes)

    def look(self, references: Iterable[str]) -> None:
        """Asks buckets about images, many at once, so that `stamp` and `fetch` need not.

        Raises:
            AttrloopError: a bucket that may not be read or cannot be reached.
        """
        inputs.look(self._remote(references)[0])

    def forget(self, references: Iterable[str]) -> None:
        """Drops images from the local cache that will not be needed soon, so memory and disk do not grow."""
        objects, web = self._remote(references)
        inputs.forget(objects)
        urls.forget(web, self.limits.max_image_bytes)
        ImageReader._digest.cache_clear()

    def _remote(self, references: Iterable[str]) -> tuple[list[str], list[str]]:
        """The objects in buckets, and the URLs, among images; those that are not allowed are left out."""
        paths = []
        for reference in references:
            with suppress(InputError):
                paths.append(self._path(reference))
        return [path for path in paths if in_bucket(path)], [path for path in paths if _is_url(path)]

    def _path(self, reference: str) -> str:
        """Where an image is. Raises for a host, bucket or folder that is not allowed."""
        _check_spelling(reference)
        path = inputs.join(self.base, reference)
        if in_bucket(path):
            bucket = locate(path)[:2]
            own = in_bucket(self.base) and locate(self.base)[:2] == bucket
            if not own and bucket[1] not in self.limits.allowed_hosts:
                raise fail(public(path), "this bucket is not allowed", "Add it to data.allowed_hosts if you trust it")
        elif _is_url(path):
            urls.check(path, self.limits.allowed_hosts)
        else:
            self._check_folder(path)
        return path

    def _check_folder(self, path: str) -> None:
        """Raises for a local file outside the allowed folders, wherever its links lead."""
        folder, name = os.path.split(path)
        try:
            if folder not in self._real:
                self._real[folder] = os.path.realpath(folder)
            real = os.path.join(self._real[folder], name)
            if name in ("", ".", "..") or os.path.islink(real):
                real = os.path.realpath(path)
        except ValueError as error:
            raise fail(ascii(public(path)), f"no path of a file ({error})", "Correct the path") from error
        if not real.startswith(self._folders):
            what = f"lies outside the listings' folder, in {public(os.path.dirname(real))}"
            raise fail(public(path), what, "Add that folder to data.allowed_folders if you trust it")

    @cached_property
    def _folders(self) -> tuple[str, ...]:
        local = (folder for folder in (self.base, *self.limits.allowed_folders) if not scheme(folder))
        return tuple(os.path.join(os.path.realpath(folder), "") for folder in local)

    def data(self, reference: str) -> bytes:
        """The encoded image.

        Raises:
            InputError: the image is missing, too large or cannot be read; its host, bucket or folder is not allowed; or
                its URL fails.
            AttrloopError: a bucket that may not be read or cannot be reached.
        """
        bound, path = self.limits.max_image_bytes, self._path(reference)
        if _is_url(path):
            return urls.read(path, bound)
        where = public(path)
        try:
            size = inputs.size(path)
            if size is None:
                raise fail(where, "no such image file", "Correct the path or add the file")
            if size > bound:
                raise fail(where, f"larger than {bound:,} bytes", "Shrink the image or raise data.max_image_bytes")
            return inputs.read(path)
        except OSError as error:
            raise fail(where, f"cannot be read ({error.strerror})", "Correct its permissions or its disk") from error

    def open(self, reference: str, side: int = 0) -> Image.Image:
        """The decoded image in RGB: upright, in sRGB, and on white where it is transparent; of an animation the first.

        Args:
            reference: of the image.
            side: pixels of each side that are enough: a JPEG is then decoded at a smaller size, which is faster. 0 for
                all that there are.

        Raises:
            InputError: as `data`; or the file is no image of `FORMATS`, is truncated or damaged, has more than
                `max_image_pixels` pixels, or is a strip.
        """
        data, where = self.data(reference), public(reference)
        try:
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
            size = f"{image.width} x {image.height} pixels"
            if image.width * image.height > self.limits.max_image_pixels:
                what = f"{size}, more than {self.limits.max_image_pixels:,} in all (decompression bomb?)"
                raise fail(where, what, "Shrink it or raise data.max_image_pixels")
            if max(image.size) > _LONGEST * min(image.size):
                raise fail(where, f"{size} are a strip; models take none", "Crop it or leave it out")
            if side:
                image.draft(None, (side, side))
            image.load()
            return as_shown(image)
        except InputError:
            raise
        except Image.DecompressionBombError as error:
            most = min(self.limits.max_image_pixels, 2 * (Image.MAX_IMAGE_PIXELS or 0))
            what, remedy = f"more than {most:,} pixels (decompression bomb?)", "Shrink it; see data.max_image_pixels"
            raise fail(where, what, remedy) from error
        except UnidentifiedImageError as error:
            raise fail(where, _what_it_is(data), "Replace it by a JPEG, PNG or WebP file") from error
        except Exception as error:  # decoders raise all kinds of errors on damaged files
            told = f"{error}" or type(error).__name__
            raise fail(where, f"truncated or damaged image ({told})", "Replace the file") from error

    def digest(self, reference: str) -> str:
        """SHA-256 (first 16 hex digits) of the encoded image; of a local file that was replaced, the new one's."""
        path = self._path(reference)
        stamp = None if scheme(path) or not os.path.isfile(path) else os.stat(path)
        return self._digest(reference, stamp and (stamp.st_ino, stamp.st_size, stamp.st_mtime_ns))

    @lru_cache(maxsize=100_000)  # noqa: B019 - a reader lives as long as its component
    def _digest(self, reference: str, stamp: tuple[int, ...] | None) -> str:
        return hashlib.sha256(self.data(reference)).hexdigest()[:16]

    def stamp(self, reference: str) -> str:
        """Changes when the image is replaced by another; "" where only the content can tell, as behind a URL.

        Raises:
            InputError: the image is missing; or its host or bucket is not allowed.
            AttrloopError: a bucket that may not be read or cannot be reached.
        """
        path = self._path(reference)
        return "" if _is_url(path) else inputs.stamp(path)

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


def _check_spelling(reference: str) -> None:
    """Raises for what is meant as a URL but is none. A file of its name is not looked for."""
    what, remedy = "", "Write https:// before the host"
    if re.match(r"\s*data:", reference, re.IGNORECASE):
        what, remedy = "data URIs are not read", "Save the image as a file and give its path"
    elif re.match(r"\s*[/\\]{2}", reference):
        what = "a URL without its scheme"
    elif re.match(r"\s*https?:(?!//)", reference, re.IGNORECASE):
        what = "not a URL: // is missing after the scheme"
    if what:
        raise fail(public(reference), what, remedy)


def _is_url(path: str) -> bool:
    return bool(scheme(path)) and not in_bucket(path)


def _what_it_is(data: bytes) -> str:
    """What a file is that Pillow opens as no image."""
    if not data.strip(b"\0"):
        return "an empty file" if not data else "nothing but zeros"
    for kind in FORMATS:
        factory, accept = Image.OPEN[kind]
        if accept and accept(data[:16]) is True:
            try:
                factory(io.BytesIO(data), "")
            except Exception as error:  # decoders raise all kinds of errors on damaged files
                if "pixel mode" in str(error):
                    return f"a {kind} file whose pixels are of a kind that is not read, such as floats of 16 or 64 bits"
                return f"a damaged {kind} file ({error})"
    start = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    other = next((f"{kind}, " for mark, kind in _OTHERS.items() if start.startswith(mark)), "")
    other = "an HEIC photograph, " if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1") else other
    return f"{other}not an image of a format that is read ({', '.join(FORMATS)})"
