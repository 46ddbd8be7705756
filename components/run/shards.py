"""Work that several workers share: `k/n` is every n-th shard from the k-th on."""

from attrloop.components.errors import fail


def divide(workers: int) -> list[str]:
    """The share of each worker, at least one: `["1/2", "2/2"]`."""
    count = max(workers, 1)
    return [f"{k + 1}/{count}" for k in range(count)]


def parse_share(share: str) -> tuple[int, int]:
    """The worker, counted from 0, and the number of workers.

    Raises:
        InputError: not of the form `k/n` with 1 <= k <= n.
    """
    first, _, second = share.partition("/")
    if not (first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second)):
        raise fail(f"share {share!r}", "not a share of the work", "Write k/n with 1 <= k <= n, e.g. 1/4")
    return int(first) - 1, int(second)
