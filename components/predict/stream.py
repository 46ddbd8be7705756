"""The catalogue as a stream: memory does not grow with its length."""

import random
import time
from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from attrloop.components.catalogue.readers import iter_rows
from attrloop.components.catalogue.records import Listing
from attrloop.components.catalogue.schema import Schema
from attrloop.components.errors import InputError, Problem, fail
from attrloop.components.gold.register import register_of
from attrloop.components.preflight.data import Catalogue, check_images
from attrloop.components.run import layout
from attrloop.components.run import overrides as settings
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.made_from import MadeFrom
from attrloop.components.run.reporting import reports, reused
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.probe import probe

VERSION = 1  # of the check
_SHOWN = 50  # faults after which reading stops


@reports("prepare-prediction", creates=True)
def prepare(config: str, workspace: str, overrides: str = "") -> str:
    """Writes the config of a prediction into its workspace and checks the whole catalogue, before a model is loaded.

    Args:
        config: path of a run config.
        workspace: URI of the prediction's workspace.
        overrides: settings that replace the config's: a JSON object by dotted name; "" for none.

    Returns:
        The workspace's URI.

    Raises:
        InputError: as `check`, and for a faulty config or schema.
    """
    ws = Workspace.create(workspace, settings.resolve(config, settings.read_json(overrides), settings.PARAMETER))
    check(ws)
    return ws.store.root


def check(ws: Workspace) -> int:
    """Reads every row of the listings, and opens a sample of `data.check_images` images.

    Returns:
        How many listings there are.

    Raises:
        InputError: bad rows (the first 50), no rows, more unreadable images than `data.max_bad_images`, or a workspace
            that cannot be written.
    """
    started, data = time.monotonic(), ws.config.data
    if problems := ws.store.check() + register_of(ws.config, ws.store.root).check() or probe(ws.store):
        raise InputError(problems)
    artifact = begin(ws)
    if artifact.manifest is not None:
        reused(f"the check of {data.listings}")
        return int(artifact.manifest.counts["listings"])
    found: list[Problem] = []
    count, keys, sample, draw = 0, array("q"), list[Listing](), random.Random(ws.config.seed)
    for count, listing in enumerate(_rows(data.listings, ws.schema, found), 1):
        if len(found) >= _SHOWN:
            break
        keys.append(hash(listing.id))
        place = draw.randrange(count)  # reservoir sampling: each listing is as likely as any other to stay
        if len(sample) < data.check_images:
            sample.append(listing)
        elif place < len(sample):
            sample[place] = listing
    if not count and not found:
        raise fail(data.listings, "no listings", "Write one JSON object a line, or a Parquet row, for each listing")
    found += _repeated(ws, keys)
    found += check_images(ws.config, Catalogue(ws.schema, {row.id: row for row in sample}), data.check_images).problems
    if found:
        raise InputError(found)
    artifact.finish("catalogue", {"listings": count, "seconds": time.monotonic() - started}, [])
    return count


def begin(ws: Workspace) -> Artifact:
    """Opens the artifact of a catalogue's check."""
    made_from = MadeFrom(VERSION, config=("data",), reads=("catalogue", "photographs", "values"))
    return Artifact.begin(ws, layout.CATALOGUE, made_from)


def _repeated(ws: Workspace, keys: "array[int]") -> list[Problem]:
    """Ids that occur more than once, compared by eight bytes each. The rows are read again only if there are some."""
    values, counts = np.unique(np.frombuffer(keys, dtype=np.int64), return_counts=True)
    twice = set(values[counts > 1].tolist())
    ids = (listing.id for listing in _rows(ws.config.data.listings, ws.schema, []) if hash(listing.id) in twice)
    where, remedy = ws.config.data.listings, "Give every listing its own id"
    return (
        [Problem(f"{where} (listing {key})", "duplicate id", remedy) for key in dict.fromkeys(islice(ids, _SHOWN))]
        if twice
        else []
    )


def listings(path: str | Path, schema: Schema) -> Iterator[Listing]:
    """The listings of a file, one at a time.

    Raises:
        InputError: at the first bad row.
    """
    found: list[Problem] = []
    for listing in _rows(path, schema, found):
        if found:
            break
        yield listing
    if found:
        raise InputError(found)


def _rows(path: str | Path, schema: Schema, found: list[Problem]) -> Iterator[Listing]:
    for line, listing in iter_rows(path, Listing, found):
        if listing.vertical not in schema.verticals:
            where, remedy = (
                f"{path}:{line} (listing {listing.id})",
                f"Use one of: {', '.join(schema.verticals)}; or add it to the schema",
            )
            found.append(Problem(where, f"unknown vertical {listing.vertical!r}", remedy))
        yield listing
