"""What is known of the photographs of a catalogue: the digest of each one's content, and its fingerprint."""

import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import parse_qsl, urlsplit

import polars as pl

from attrloop.components.catalogue.images import ImageReader
from attrloop.components.digests import digest
from attrloop.components.errors import InputError
from attrloop.components.gold.fingerprint import METHOD, SIDE, fingerprint
from attrloop.components.gold.register import PHOTOGRAPHS
from attrloop.components.run.progress import progress
from attrloop.components.storage import inputs
from attrloop.components.storage.buckets import in_bucket, scheme

_BATCH = 1_000  # photographs that are brought here at once
_KEPT = 20_000  # photographs after which they are made durable: a killed step reads no more than these again
_LOOKED_AT = 20_000  # photographs whose versions are asked for at once, and are then forgotten
_WORKERS = max(4, os.cpu_count() or 1)


_METHOD = f"{METHOD}.{ImageReader.version}:"  # how versions begin: with another method, photographs are read again
_COLUMNS = {"image": pl.String, **PHOTOGRAPHS}
_NOW = dict.fromkeys(("image", "name", "version"), pl.String)
# What URLs are signed with: of Amazon, Google, CloudFront and Azure. The next signature is of the same photograph.
_SIGNATURE = re.compile(
    r"x-(amz|goog)-.*|signature|expires|policy|key-pair-id|token|(aws|google)accesskeyid|sig|s[eprtv]"
)


def look(
    reader: ImageReader,
    images: Iterable[str],
    known: pl.DataFrame,
    keep: Callable[[pl.DataFrame], None] | None = None,
) -> pl.DataFrame:
    """Looks at photographs; reads those that are new or may have been replaced.

    Args:
        reader: opens them.
        images: as listings name them.
        known: rows of `PHOTOGRAPHS` from earlier.
        keep: makes rows durable; called now and then, and at the end.

    Returns:
        Columns image and those of `PHOTOGRAPHS`: a row for each image that can be read, or was read earlier. What
        cannot be read is left to others to count.

    Raises:
        AttrloopError: a bucket that may not be read or cannot be reached.
    """
    names = list(dict.fromkeys(images))
    known = known.select(*PHOTOGRAPHS).filter(pl.col("version").str.starts_with(_METHOD))
    seen = known.unique(["name", "version"])
    every = [pl.DataFrame(schema=_NOW)]
    found = [pl.DataFrame(schema=_COLUMNS)]
    fresh: list[pl.DataFrame] = []
    with ThreadPoolExecutor(_WORKERS) as pool, progress("look at photographs", len(names), "photographs") as bar:
        for start in range(0, len(names), _LOOKED_AT):
            now = _versions(reader, names[start : start + _LOOKED_AT], pool)
            same = now.filter(pl.col("version") != _METHOD).join(seen, on=["name", "version"])
            every, found = [*every, now], [*found, same.select(*_COLUMNS)]
            bar.advance(same.height)
            for batch in now.join(same, on="image", how="anti").iter_slices(_BATCH):
                fresh.append(_read(reader, batch, known, pool))
                bar.advance(batch.height)
                if keep and sum(map(len, fresh)) >= _KEPT:
                    _keep(fresh, known, keep)
                    found, fresh = [*found, *fresh], []
            reader.forget(now["image"])
    if keep and fresh:
        _keep(fresh, known, keep)
    rows = pl.concat([*found, *fresh])
    unread = pl.concat(every).join(rows, on="image", how="anti").drop("version")
    return pl.concat([rows, unread.join(known.unique("name", keep="last"), on="name").select(*_COLUMNS)])


def _keep(rows: list[pl.DataFrame], known: pl.DataFrame, keep: Callable[[pl.DataFrame], None]) -> None:
    """Keeps what is not known. What is behind a URL is read each time, and mostly is."""
    new = pl.concat(rows).select(*PHOTOGRAPHS).join(known, on=["name", "version", "photograph"], how="anti")
    if new.height:
        keep(new)


def _name(reader: ImageReader, image: str) -> str:
    """What a photograph is known by. A URL may hold a secret, so its digest is taken, and of a signature nothing."""
    path = inputs.join(reader.base, image)
    if in_bucket(path) or not scheme(path):
        return path
    url = urlsplit(path)
    query = [pair for pair in parse_qsl(url.query, True) if not _SIGNATURE.fullmatch(pair[0].lower())]
    return digest([url.scheme, url.netloc, url.path, query])


def _versions(reader: ImageReader, images: list[str], pool: ThreadPoolExecutor) -> pl.DataFrame:
    """Columns `_NOW`: the versions that photographs have now."""
    reader.look(images)
    stamps = list(pool.map(lambda image: _stamp(reader, image), images))
    names = [_name(reader, image) for image in images]
    return pl.DataFrame({"image": images, "name": names, "version": stamps}, schema=_NOW)


def _stamp(reader: ImageReader, image: str) -> str:
    """The version that a photograph has now; only `_METHOD` if reading it alone can tell, or it cannot be read."""
    try:
        return _METHOD + reader.stamp(image)
    except InputError:
        return _METHOD


def _read(reader: ImageReader, images: pl.DataFrame, known: pl.DataFrame, pool: ThreadPoolExecutor) -> pl.DataFrame:
    """Reads photographs, and leaves nothing of them in the cache that was not there before."""

    def content(image: str) -> int | None:
        with suppress(InputError):
            return int(reader.digest(image), 16)
        return None

    def printed(image: str) -> bytes | None:
        with suppress(InputError):
            return fingerprint(reader.open(image, SIDE))
        return None

    reader.fetch(images["image"])
    contents = pl.Series(list(pool.map(content, images["image"])), dtype=pl.UInt64)
    rows = images.with_columns(photograph=contents).drop_nulls("photograph")
    seen = known.select("photograph", "fingerprint").filter(pl.col("photograph").is_in(rows["photograph"].implode()))
    rows = rows.join(seen.unique("photograph"), on="photograph", how="left")
    unseen = rows.filter(pl.col("fingerprint").is_null()).drop("fingerprint")
    prints = pl.Series(list(pool.map(printed, unseen["image"])), dtype=pl.Binary)
    reader.forget(images["image"])
    return pl.concat([rows, unseen.with_columns(fingerprint=prints)]).drop_nulls("fingerprint").select(*_COLUMNS)
