"""Images are opened as browsers show them. An image that no model takes is a bad image."""

import logging
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageCms
from PIL.PngImagePlugin import PngImageFile

from attrloop.components.catalogue.images import ImageReader
from attrloop.components.catalogue.records import Listing
from attrloop.components.engines.chains import readable
from attrloop.components.errors import InputError
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.config import DataConfig, ModelConfig
from tests.tiny import ARCHITECTURES

_TURN = Image.Transpose
# How a camera stores a picture, by the EXIF orientation that says how to turn it back.
STORED = {
    2: _TURN.FLIP_LEFT_RIGHT, 3: _TURN.ROTATE_180, 4: _TURN.FLIP_TOP_BOTTOM, 5: _TURN.TRANSPOSE,
    6: _TURN.ROTATE_90, 7: _TURN.TRANSVERSE, 8: _TURN.ROTATE_270,
}  # fmt: skip


@pytest.fixture
def images(tmp_path: Path) -> ImageReader:
    return ImageReader(tmp_path, DataConfig(catalogue_schema="", listings=""))


@pytest.fixture
def scene() -> Image.Image:
    """A picture that looks different for every way to turn it."""
    scene = Image.new("RGB", (60, 40), "white")
    scene.paste("red", (0, 0, 20, 20))
    scene.paste("blue", (40, 0, 60, 10))
    return scene


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_photographs_are_seen_upright(
    images: ImageReader, scene: Image.Image, tmp_path: Path, orientation: int, suffix: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    scene.transpose(STORED[orientation]).save(tmp_path / f"a.{suffix}", exif=exif, quality=95, subsampling=0)
    seen = images.open(f"a.{suffix}")
    assert seen.size == scene.size and np.asarray(ImageChops.difference(seen, scene)).max() < (
        60 if suffix == "jpg" else 1
    )


def test_damaged_exif_makes_no_damaged_image(images: ImageReader, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    Image.new("RGB", (60, 40), "red").save(
        tmp_path / "a.jpg", exif=exif.tobytes().replace(b"\x01\x0f\x00\x02", b"\x01\x00\x00\x02")
    )
    assert images.open("a.jpg").size == (40, 60)


@pytest.mark.parametrize("size", [(2000, 19), (8, 2000)])
def test_a_strip_is_a_bad_image(images: ImageReader, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "strip.png")
    with pytest.raises(
        InputError, match=rf"strip.png: {size[0]} x {size[1]} pixels are a strip; .* Crop it or leave it out"
    ):
        images.open("strip.png")


def test_a_listing_with_a_strip_is_skipped(
    images: ImageReader, base_of: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGB", (2000, 8)).save(tmp_path / "strip.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "whole.png")
    listings = [Listing(id=name, vertical="mug", images=(f"{name}.png",)) for name in ("strip", "whole")]
    with caplog.at_level(logging.WARNING):
        kept = readable(Vlm.load(ModelConfig(base=str(base_of("qwen2_5_vl"))), images), listings)
    assert kept == listings[1:] and "skipping listing strip" in caplog.text


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_the_longest_allowed_image_is_taken_at_every_resolution(
    images: ImageReader, base_of: Callable[[str], Path], tmp_path: Path, architecture: str
) -> None:
    Image.new("RGB", (2000, 20)).save(tmp_path / "long.png")
    for most in (448 * 448, 32 * 32):
        assert Vlm.load(ModelConfig(base=str(base_of(architecture)), max_pixels=most), images).image_tokens(
            ["long.png"]
        )


GRADIENT = np.tile(np.linspace(0, 1, 256), (16, 1))
_ZERO_IS_WHITE = {262: 0}
# Grey in every form that files have it in: values, suffix, TIFF tags.
GREYS: dict[str, tuple[np.ndarray, str, dict[int, int]]] = {
    "16 bits": ((GRADIENT * 65535).astype(np.uint16), "png", {}),
    "16 bits in TIFF": ((GRADIENT * 65535).astype(np.uint16), "tif", {}),
    "16 bits, big-endian": ((GRADIENT * 65535).astype(">u2"), "tif", {}),
    "16 bits, 0 is white": ((GRADIENT[:, ::-1] * 65535).astype(np.uint16), "tif", _ZERO_IS_WHITE),
    "16 bits in JPEG 2000": ((GRADIENT * 65535).astype(np.uint16), "jp2", {}),
    "12 of 16 bits": ((GRADIENT * 4095).astype(np.uint16), "tif", {}),
    "32 bits": ((GRADIENT * (2**31 - 1)).astype(np.int32), "tif", {}),
    "32 bits, signed": ((GRADIENT * 2e9 - 1e9).astype(np.int32), "tif", {}),
    "16 of 32 bits": ((GRADIENT * 65535).astype(np.int32), "tif", {}),
    "8 of 32 bits": ((GRADIENT * 255).astype(np.int32), "tif", {}),
    "floats to 1": (GRADIENT.astype(np.float32), "tif", {}),
    "floats to 1, 0 is white": (GRADIENT[:, ::-1].astype(np.float32), "tif", _ZERO_IS_WHITE),
    "floats a little over 1": ((GRADIENT * 1.006 - 0.002).astype(np.float32), "tif", {}),
    "floats to 255": ((GRADIENT * 255).astype(np.float32), "tif", {}),
    "floats to 65535": ((GRADIENT * 65535).astype(np.float32), "tif", {}),
    "floats from -1 to 1": ((GRADIENT * 2 - 1).astype(np.float32), "tif", {}),
    "floats to 7": ((GRADIENT * 7).astype(np.float32), "tif", {}),
}


@pytest.mark.parametrize("kind", GREYS)
def test_grey_of_any_depth_is_seen_as_a_gradient(images: ImageReader, tmp_path: Path, kind: str) -> None:
    values, suffix, tags = GREYS[kind]
    more: dict[str, Any] = {"tiffinfo": tags} if tags else {}
    Image.fromarray(values).save(tmp_path / f"a.{suffix}", **more)
    seen = np.asarray(images.open(f"a.{suffix}")).astype(int)
    assert np.abs(seen - np.linspace(0, 255, 256)[None, :, None]).max() <= 2


def test_unsigned_values_above_the_signed_ones_are_bright(images: ImageReader, tmp_path: Path) -> None:
    Image.fromarray((GRADIENT * (2**32 - 1)).astype(np.uint32).view(np.int32)).save(tmp_path / "signed.tif")
    signed, unsigned = (struct.pack("<HHII", 339, 3, 1, kind) for kind in (2, 1))
    (tmp_path / "a.tif").write_bytes((tmp_path / "signed.tif").read_bytes().replace(signed, unsigned))
    seen = np.asarray(images.open("a.tif"))[0, :, 0].astype(int)
    assert (np.diff(seen) >= 0).all() and (seen[0], seen[-1]) == (0, 255)


def test_pixels_that_are_not_numbers_change_no_other(images: ImageReader, tmp_path: Path) -> None:
    values = GRADIENT.astype(np.float32)
    values[0, :3] = (np.nan, np.inf, -np.inf)
    Image.fromarray(values).save(tmp_path / "a.tif")
    seen = np.asarray(images.open("a.tif"))[..., 0]
    assert seen[0, :3].tolist() == [0, 255, 0] and (seen[1, 128], seen[1, 255]) == (128, 255)
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "none.tif")
    with pytest.raises(InputError, match=r"none.tif: truncated or damaged image \(no pixel has a value\)"):
        images.open("none.tif")


@pytest.mark.parametrize("suffix", ["png", "jp2"])
@pytest.mark.parametrize("most", [250, 4_095, 30_000])
def test_what_is_dark_in_a_format_that_knows_its_white_stays_dark(
    images: ImageReader, tmp_path: Path, suffix: str, most: int
) -> None:
    Image.fromarray((GRADIENT * most).astype(np.uint16)).save(tmp_path / f"a.{suffix}")
    assert np.asarray(images.open(f"a.{suffix}")).max() == pytest.approx(most / 257, abs=1)


@pytest.mark.parametrize(
    ("form", "broken"),
    [(np.float32, 1e30), (np.float32, 200), (np.float32, 1.1), (np.float32, -1e30), (np.int32, 2**31 - 1)],
)
def test_one_broken_pixel_changes_no_other(
    images: ImageReader, tmp_path: Path, form: type[np.number[Any]], broken: float
) -> None:
    values = (GRADIENT * (255 if form is np.int32 else 1)).astype(form)
    values[0, 0] = broken
    Image.fromarray(values).save(tmp_path / "a.tif")
    seen = np.asarray(images.open("a.tif")).astype(int)[1:]
    assert np.abs(seen - np.linspace(0, 255, 256)[None, :, None]).max() <= 2


@pytest.mark.parametrize("level", [0, 40, 100, 255])
def test_one_level_of_grey_stays_that_level(images: ImageReader, tmp_path: Path, level: int) -> None:
    Image.fromarray(np.full((8, 8), level / 255, np.float32)).save(tmp_path / "a.tif")
    Image.fromarray(np.full((8, 8), level * 257, np.uint16)).save(tmp_path / "a.png")
    assert images.open("a.tif").getpixel((3, 3)) == images.open("a.png").getpixel((3, 3)) == (level,) * 3


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exchanged() -> bytes:
    """A profile of sRGB's colours with red and blue exchanged."""
    return srgb().replace(b"rXYZ", b"none").replace(b"bXYZ", b"rXYZ").replace(b"none", b"bXYZ")


def profile(space: bytes, connection: bytes, *tags: tuple[bytes, bytes]) -> bytes:
    """A colour profile by the specification (ICC.1:2001-04), with these tags."""
    header = struct.pack(">II4s4s4s", 0x02100000, 0, b"prtr"[:4], space, connection)
    header = b"\0" * 4 + b"lcms" + header[:4] + header[8:] + b"\0" * 12 + b"acsp" + b"\0" * 28
    header += struct.pack(">iii", 0xF6D6, 0x10000, 0xD32D) + b"\0" * 48
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags:
        table += struct.pack(">4sII", name, start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    made = header + table + body
    return struct.pack(">I", len(made)) + made[4:]


def grey_profile() -> bytes:
    """Grey whose values are proportional to light."""
    return profile(b"GRAY", b"XYZ ", (b"kTRC", b"curv" + b"\0" * 8), (b"wtpt", xyz(0.9642, 1, 0.8249)))


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">iii", *(round(value * 65536) for value in values))


def ink_profile() -> bytes:
    """Inks of which black alone counts: 255 of it is black, none is white."""
    straight = bytes(range(256))
    corners = [(255, 128, 128) if not black else (0, 128, 128) for _ in range(8) for black in (0, 1)]
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 * (k % 4 == 0) for k in range(9)))
    table += straight * 4 + bytes(value for corner in corners for value in corner) + straight * 3
    return profile(b"CMYK", b"Lab ", *((name, table) for name in (b"A2B0", b"A2B1")), (b"wtpt", xyz(0.9642, 1, 0.8249)))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
def test_colours_are_those_of_the_files_profile(images: ImageReader, tmp_path: Path, suffix: str) -> None:
    red = Image.new("RGB", (64, 64), (200, 30, 30))
    for name, icc in (("tagged", exchanged()), ("srgb", srgb()), ("damaged", exchanged()[:300]), ("junk", b"x" * 500)):
        red.save(tmp_path / f"{name}.{suffix}", icc_profile=icc, quality=95)
        wanted = (30, 30, 200) if name == "tagged" else (200, 30, 30)
        assert images.open(f"{name}.{suffix}").getpixel((32, 32)) == pytest.approx(wanted, abs=4), name


def test_a_profile_is_applied_whatever_the_pixels_are(images: ImageReader, tmp_path: Path) -> None:
    red = Image.new("RGBA", (64, 64), (200, 30, 30, 255))
    red.paste((0, 0, 0, 0), (0, 0, 32, 64))
    red.save(tmp_path / "alpha.png", icc_profile=exchanged())
    red.convert("RGB").quantize(4).save(tmp_path / "palette.png", icc_profile=exchanged())
    Image.new("L", (64, 64), 90).save(tmp_path / "grey-in-rgb.jpg", icc_profile=exchanged())
    for name in ("alpha.png", "palette.png"):
        assert images.open(name).getpixel((48, 32)) == pytest.approx((30, 30, 200), abs=4), name
    assert images.open("alpha.png").getpixel((8, 8)) == (255, 255, 255)
    assert images.open("grey-in-rgb.jpg").getpixel((8, 8)) == pytest.approx((90, 90, 90), abs=2)
    light = grey_profile()
    Image.new("L", (64, 64), 55).save(tmp_path / "grey.png", icc_profile=light)
    Image.fromarray(np.full((64, 64), 55 * 257, np.uint16)).save(tmp_path / "grey16.png", icc_profile=light)
    for name in ("grey.png", "grey16.png"):
        assert images.open(name).getpixel((8, 8)) == pytest.approx((128, 128, 128), abs=3), name


def test_inks_have_the_colours_of_their_profile(images: ImageReader, tmp_path: Path) -> None:
    inks = Image.new("CMYK", (64, 64), (0, 255, 255, 0))
    inks.save(tmp_path / "plain.jpg", quality=95)
    inks.save(tmp_path / "tagged.jpg", quality=95, icc_profile=ink_profile())
    inks.save(tmp_path / "wrong.jpg", quality=95, icc_profile=srgb())
    assert images.open("plain.jpg").getpixel((8, 8)) == pytest.approx((255, 0, 0), abs=4)
    assert images.open("wrong.jpg").getpixel((8, 8)) == pytest.approx((255, 0, 0), abs=4), "it is not of inks"
    assert images.open("tagged.jpg").getpixel((8, 8)) == pytest.approx((255, 255, 255), abs=4)


def test_lab_is_seen_in_its_colours(images: ImageReader, tmp_path: Path) -> None:
    red = Image.new("RGB", (64, 64), (200, 30, 30))
    to_lab = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
    lab = ImageCms.profileToProfile(red, *to_lab, outputMode="LAB")
    assert lab is not None
    lab.save(tmp_path / "a.tif")
    assert images.open("a.tif").getpixel((8, 8)) == pytest.approx((200, 30, 30), abs=3)


def test_transparency_of_every_kind_is_white(images: ImageReader, tmp_path: Path) -> None:
    half = Image.new("L", (64, 64), 0)
    half.paste(255, (32, 0, 64, 64))
    half.quantize(2).save(tmp_path / "palette.png", transparency=half.quantize(2).getpixel((0, 0)))
    half.quantize(2).save(tmp_path / "palette.gif", transparency=half.quantize(2).getpixel((0, 0)))
    half.save(tmp_path / "grey.png", transparency=0)
    half.convert("1").save(tmp_path / "bits.png", transparency=0)
    half.convert("RGB").save(tmp_path / "colour.png", transparency=(0, 0, 0))
    Image.fromarray(np.where(np.asarray(half) > 0, 40_000, 0).astype(np.uint16)).save(
        tmp_path / "deep.png", transparency=0
    )
    Image.merge("LA", (half, half)).save(tmp_path / "alpha.png")
    for name in ("palette.png", "palette.gif", "grey.png", "bits.png", "colour.png", "deep.png", "alpha.png"):
        seen = images.open(name)
        assert seen.mode == "RGB" and seen.getpixel((8, 8)) == (255, 255, 255), name
    assert images.open("deep.png").getpixel((48, 8)) == pytest.approx((156,) * 3, abs=1)
    half.convert("1").save(tmp_path / "opaque.png")
    assert images.open("opaque.png").getpixel((8, 8)) == (0, 0, 0)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif", "a.jpg", "a.avif"])
def test_the_first_of_several_pictures_is_seen(images: ImageReader, tmp_path: Path, name: str) -> None:
    first, second = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue"))
    kind = {"format": "MPO"} if name == "a.jpg" else {}
    first.save(tmp_path / name, save_all=True, append_images=[second], **kind)
    assert images.open(name).getpixel((8, 8)) == pytest.approx((255, 0, 0), abs=6)


def test_formats_that_are_not_read_are_bad_images(images: ImageReader, tmp_path: Path) -> None:
    for suffix in ("eps", "pdf", "ico", "ppm", "tga", "icns"):
        Image.new("RGB", (64, 64), "red").save(tmp_path / f"a.{suffix}")
        shutil.copy(tmp_path / f"a.{suffix}", tmp_path / "renamed.jpg")
        for name in (f"a.{suffix}", "renamed.jpg"):
            with pytest.raises(
                InputError, match=r"not an image of a format that is read \(JPEG, PNG.* Replace it by a"
            ):
                images.open(name)


def float_tiff(form: type[np.number[Any]]) -> bytes:
    """A TIFF file of floats, by the specification, which Pillow does not write."""
    pixels = np.zeros((8, 8), form)
    about = {
        256: 8,
        257: 8,
        258: 8 * pixels.itemsize,
        259: 1,
        262: 1,
        273: 8,
        277: 1,
        278: 8,
        279: pixels.nbytes,
        339: 3,
    }
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in about.items())
    return (
        struct.pack("<4sI", b"II*\0", 8 + pixels.nbytes) + pixels.tobytes() + struct.pack("<H", 10) + tags + b"\0" * 4
    )


def wrong_checksum(png: bytes) -> bytes:
    return png[:30] + bytes([png[30] ^ 1]) + png[31:]


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda png: b"", "an empty file"),
        (lambda png: b"\0" * 5_000, "nothing but zeros"),
        (lambda png: b"\n<!DOCTYPE html><html>", "a web page, not an image of a format that is read (JPEG,"),
        (lambda png: b"<HTML><body>404", "a web page, not an image"),
        (lambda png: b"%PDF-1.7", "a PDF document, not an image"),
        (lambda png: b"\0\0\0\x24ftypheic\0\0\0\0", "an HEIC photograph, not an image"),
        (lambda png: b"hello", "not an image of a format that is read (JPEG,"),
        (wrong_checksum, "a damaged PNG file (broken PNG file (bad header checksum in b'IHDR'))"),
        (lambda png: float_tiff(np.float16), "a TIFF file whose pixels are of a kind that is not read, such as floats"),
        (lambda png: float_tiff(np.float64), "a TIFF file whose pixels are of a kind that is not read, such as floats"),
    ],
)
def test_what_is_no_image_is_told_for_what_it_is(
    images: ImageReader, tmp_path: Path, made: Callable[[bytes], bytes], told: str
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.jpg").write_bytes(made((tmp_path / "a.png").read_bytes()))
    with pytest.raises(InputError) as caught:
        images.open("a.jpg")
    (problem,) = caught.value.problems
    assert problem.what.startswith(told) and problem.remedy == "Replace it by a JPEG, PNG or WebP file"


@pytest.mark.parametrize(
    ("side", "told"), [(8_000, "8000 x 8000 pixels, more than 50,000,000 in all"), (20_000, "more than 50,000,000")]
)
def test_an_image_of_too_many_pixels_names_the_limit_and_the_setting(
    images: ImageReader, tmp_path: Path, side: int, told: str
) -> None:
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    with pytest.raises(InputError) as caught:
        images.open("a.png")
    (problem,) = caught.value.problems
    assert problem.what.startswith(told) and "data.max_image_pixels" in problem.remedy


def pictures(folder: Path) -> list[Path]:
    """A picture of every format, some with a profile or several frames."""
    noise = Image.effect_noise((48, 40), 80)
    colour = Image.merge("RGB", (noise, noise.transpose(_TURN.ROTATE_180), noise))
    for suffix in ("jpg", "png", "webp", "avif", "gif", "bmp", "tif", "jp2"):
        more: dict[str, Any] = {"icc_profile": exchanged()} if suffix not in ("gif", "bmp") else {}
        colour.save(folder / f"colour.{suffix}", **more)
    noise.save(folder / "lzw.tif", compression="tiff_lzw")
    Image.fromarray(np.asarray(noise).astype(np.float32)).save(folder / "float.tif")
    colour.convert("CMYK").save(folder / "inks.jpg", icc_profile=ink_profile())
    colour.quantize(8).save(folder / "palette.png", transparency=1)
    colour.save(folder / "frames.webp", save_all=True, append_images=[colour])
    return sorted(folder.iterdir())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_file_of_any_format_is_one_bad_image(images: ImageReader, tmp_path: Path) -> None:
    """Decoders raise whatever they like. Bytes are cut off and changed at random, most of them near the beginning."""
    draw, bad = random.Random(0), 0
    for path in pictures(tmp_path):
        whole = path.read_bytes()
        for k in range(25):
            broken = bytearray(whole[: draw.randrange(1, len(whole))] if k % 3 == 0 else whole)
            for _ in range(draw.choice([1, 3, 20])):
                broken[min(len(broken) - 1, int(draw.expovariate(1 / 150)))] = draw.randrange(256)
            (tmp_path / "broken").write_bytes(broken)
            try:
                assert images.open("broken").mode == "RGB"
            except InputError:
                bad += 1
    assert bad > 150


@pytest.mark.parametrize(
    "error", [KeyError("exif"), MemoryError(), RecursionError(), struct.error("short"), zlib.error("-3")]
)
def test_whatever_a_decoder_raises_names_the_image(
    images: ImageReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def fail(self: Image.Image) -> None:
        raise error

    monkeypatch.setattr(PngImageFile, "load", fail)
    with pytest.raises(InputError, match=r"a.png: truncated or damaged image \(.+\)\. Replace the file"):
        images.open("a.png")


def test_images_lie_in_the_listings_folder_or_one_that_is_allowed(tmp_path: Path) -> None:
    folder, other = tmp_path / "shop", tmp_path / "photos"
    for place in (folder / "img", other, tmp_path / "shop-2"):
        place.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(place / "a.png")
    (folder / "out.png").symlink_to(other / "a.png")
    (folder / "linked").symlink_to(other)
    (folder / "in.png").symlink_to("img/a.png")
    (folder / "round.png").symlink_to("round.png")
    (folder / "img" / "up").symlink_to("..")
    images = ImageReader(folder, DataConfig(catalogue_schema="", listings=""))
    for inside in ("img/a.png", "img/../img/a.png", "img/up/img/a.png", "in.png", str(folder / "img" / "a.png")):
        assert images.open(inside).size == (8, 8)
    outside = ("../photos/a.png", str(other / "a.png"), "out.png", "linked/a.png", "../shop-2/a.png", "img/up/out.png")
    for reference in outside:
        for read in (images.open, images.data, images.digest):
            with pytest.raises(
                InputError, match=r"lies outside the listings' folder, in .* Add that folder to data.allowed_folders"
            ):
                read(reference)
    for reference in ("../../../../../../etc/passwd", "/etc/passwd"):
        with pytest.raises(InputError, match="passwd: lies outside the listings' folder, in /etc"):
            images.open(reference)
    for reference in ("round.png", "no\0thing.png", "\ud800.png", "a" * 5000, "img", "img/..", "..", "img/a.png/b.png"):
        with pytest.raises(InputError):
            images.open(reference)
    allowed = DataConfig(catalogue_schema="", listings="", allowed_folders=(str(other), str(tmp_path / "shop-2")))
    assert all(ImageReader(folder, allowed).open(reference).size == (8, 8) for reference in outside)


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("//bob:hunter2@cdn.example/a.jpg?sig=hunter2", "//cdn.example/a.jpg?...: a URL without its scheme. Write"),
        ("https:/bob:hunter2@cdn.example/a.jpg", "https:/cdn.example/a.jpg: not a URL: // is missing"),
        ("cdn.example/a.jpg?X-Amz-Signature=hunter2", "cdn.example/a.jpg?...: no such image file"),
        ("../a.jpg?sig=hunter2", "a.jpg?...: lies outside the listings' folder"),
        ("data:image/png;base64," + "hunter2" * 60_000, "data:image/png;base64,...: data URIs are not read. Save"),
        ("a/" * 200_000, "no such image file"),
        ("a:/" * 200_000, "no such image file"),
    ],
)
def test_a_mistyped_url_is_named_without_its_secrets_and_in_few_words(
    images: ImageReader, reference: str, told: str
) -> None:
    problem = str(images.check(reference, "listing mug-0"))
    assert told in problem and "hunter2" not in problem and len(problem) < 1_000


def test_a_photograph_that_is_replaced_has_another_digest(images: ImageReader, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    before = images.digest("a.png")
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "a.png")
    assert images.digest("a.png") != before
