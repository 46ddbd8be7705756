"""Groups of listings that share a photograph, or whose photographs are copies of one another."""

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from attrloop.components.gold.fingerprint import as_array, near

MANY = 50  # more listings than a product has variants


def identified(photographs: pl.DataFrame) -> pl.DataFrame:
    """Tells which photographs are one: copies in another size, format or quality.

    Args:
        photographs: columns photograph (the digest of its bytes), fingerprint and entry (when it was first seen).

    Returns:
        Columns photograph and key: the photograph among its copies that was seen first, of several the one with the
        least digest. So a key stays when copies come or go.
    """
    known = photographs.group_by("photograph").agg(pl.col("entry").min(), pl.col("fingerprint").first())
    known = known.sort("entry", "photograph").select("photograph", "fingerprint")
    first = _first_of_component(near(as_array(known["fingerprint"].to_list())), known.height)
    return known.select("photograph", key=pl.col("photograph").gather(first))


def grouped(photographs: pl.DataFrame) -> dict[str, str]:
    """The key of the group of every listing that shares a photograph with another: the least of the shared ones.

    Listings without are left out: each is a group of its own. So no split changes when a listing gets another
    photograph of its own. A photograph that more than `MANY` listings show joins nobody: it is a placeholder or a size
    chart, and shows no product.

    Args:
        photographs: columns listing and key (see `identified`), each pair once.
    """
    shared = photographs.filter(pl.len().over("key").is_between(2, MANY)).sort("key")
    listing, key = (shared[name].rank("dense").cast(pl.Int64).to_numpy() - 1 for name in ("listing", "key"))
    keys = shared["key"].unique(maintain_order=True)
    # One graph of keys and listings, an edge for each photograph of a listing. The keys come first.
    edges = np.stack([key, listing + len(keys)], axis=1)
    first = _first_of_component(edges, len(keys) + int(listing.max(initial=-1)) + 1)
    groups = shared.select("listing", group=keys.gather(first[key])).unique()
    return {name: f"{group:016x}" for name, group in groups.iter_rows()}


def _first_of_component(edges: npt.NDArray[np.int64], nodes: int) -> npt.NDArray[np.int64]:
    """The least node of the component of each node."""
    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(nodes, nodes))
    _, label = connected_components(graph, directed=False)
    _, first = np.unique(label, return_index=True)  # of each component
    found: npt.NDArray[np.int64] = first[label]
    return found
