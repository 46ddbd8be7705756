"""Seeded draws. They depend on what is drawn, but not on the order of rows, the platform or a library's version."""

import hashlib
from collections.abc import Iterable

import polars as pl

_GOLDEN, _ODD = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03


def sample_keys(seed: int, samples: Iterable[tuple[str, str]]) -> pl.Series:
    """A uniform 64-bit key for every (listing, attribute).

    Args:
        seed: of the run.
        samples: (listing, attribute) pairs.
    """
    prefix = hashlib.blake2b(str(seed).encode(), digest_size=8)

    def key(listing: str, attribute: str) -> int:
        state = prefix.copy()
        state.update(f"\0{listing}\0{attribute}".encode())
        return int.from_bytes(state.digest(), "little")

    return pl.Series("key", [key(*sample) for sample in samples], dtype=pl.UInt64)


def derive(key: pl.Expr, *numbers: pl.Expr) -> pl.Expr:
    """Another uniform 64-bit key, from a key and small integers (splitmix64's finaliser; products wrap at 2^64).

    Args:
        key: UInt64.
        numbers: integers from -1, e.g. a view or the number of a chain.
    """
    for number in numbers:
        key = _finish(key + (number + 2).cast(pl.UInt64) * _word(_GOLDEN) + _word(_ODD))
    return key


def _finish(word: pl.Expr) -> pl.Expr:
    word = (word ^ word // _word(1 << 30)) * _word(0xBF58476D1CE4E5B9)
    word = (word ^ word // _word(1 << 27)) * _word(0x94D049BB133111EB)
    return word ^ word // _word(1 << 31)


def _word(value: int) -> pl.Expr:
    return pl.lit(value, dtype=pl.UInt64)
