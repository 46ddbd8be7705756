"""Work that several tasks share: `k/n` is every n-th piece from the k-th on."""

from attrloop.components.errors import fail


def shares(workers: int) -> list[str]:
    """The share of each of several workers, of one at least: `["1/2", "2/2"]`."""
    count = max(workers, 1)
    return [f"{k + 1}/{count}" for k in range(count)]


def parse_share(share: str) -> tuple[int, int]:
    """The worker, from 0, and how many there are.

    Raises:
        InputError: not of the form `k/n` with 1 <= k <= n.
    """
    first, _, second = share.partition("/")
    if not (first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second)):
        raise fail(f"share {share!r}", "not a share of the work", "Write k/n with 1 <= k <= n, e.g. 1/4")
    return int(first) - 1, int(second)
