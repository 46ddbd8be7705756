"""Opens the store that a URI names."""

from pathlib import Path

from attrloop.components.storage import buckets
from attrloop.components.storage.bucket_store import BucketStore
from attrloop.components.storage.local import LocalStore
from attrloop.components.storage.store import Store


def open_store(uri: str | Path) -> Store:
    """The store at a root: a local path, or the URI of a folder in a bucket.

    Raises:
        InputError: for a scheme that is not supported.
    """
    if not buckets.scheme(uri):
        return LocalStore(uri)
    return BucketStore(str(uri))
