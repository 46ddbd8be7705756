"""Fingerprints of photographs: near-equal for copies in another size, format or quality, and for nothing else.

A fingerprint is a perceptual hash (the signs of the lowest frequencies of the picture in grey, as in pHash: C. Zauner,
'Implementation and Benchmarking of Perceptual Image Hash Functions', 2010) followed by a tiny picture in colour. The
hash finds copies; the tiny picture tells a garment from the same garment in another colour, which differs in no sign.
`tests/bench/bench_fingerprints.py` measures both errors on photographs.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dctn

METHOD = 1  # changes with whatever changes a fingerprint
SIDE = 128  # pixels: an image is decoded to no fewer for its fingerprint

# Sides: of the picture that is transformed, of the frequencies that are kept, of the tiny picture.
_GREY, _LOW, _TINY = 64, 16, 5
_HASH = _LOW * _LOW // 8  # bytes
LENGTH = _HASH + _TINY * _TINY * 3  # bytes

# A weaker frequency counts as absent: its sign does not survive a re-compression.
_FAINT = 8.0
# Measured on 8,133 photographs: 99 % of the copies differ in 9 bits at most, different photographs in 60 and more.
_BITS = 24
_DETAIL = 16  # bits without which two hashes say nothing, such as those of a blank picture
_COLOUR = 5  # of 255: largest difference of the tiny pictures

_TABLES, _SHARED, _WINDOW = 24, 22, 64  # of the search: see `near`
_CHUNK = 100_000  # fingerprints that are compared at once

Prints = npt.NDArray[np.uint8]


def fingerprint(image: Image.Image) -> bytes:
    """The fingerprint of a picture in RGB, `LENGTH` bytes."""
    small = image.resize((_GREY, _GREY), Image.Resampling.LANCZOS, reducing_gap=3.0)
    low = dctn(np.asarray(small.convert("L"), np.float64), norm="ortho")[:_LOW, :_LOW]
    tiny = small.convert("YCbCr").resize((_TINY, _TINY), Image.Resampling.BICUBIC)
    return np.packbits(low > _FAINT).tobytes() + tiny.tobytes()


def as_array(prints: list[bytes]) -> Prints:
    """Fingerprints as rows, shape [n, LENGTH]."""
    return np.frombuffer(b"".join(prints), np.uint8).reshape(len(prints), LENGTH)


def alike(these: Prints, those: Prints) -> npt.NDArray[np.bool_]:
    """Whether the fingerprints in the same row are those of one photograph, shape [n]."""
    one, other = (np.ascontiguousarray(prints[:, :_HASH]).view(np.uint64) for prints in (these, those))
    differ = np.bitwise_count(one ^ other).sum(1, dtype=np.int64)
    detail = np.bitwise_count(one | other).sum(1, dtype=np.int64)
    found: npt.NDArray[np.bool_] = (differ <= _BITS) & (3 * differ <= detail) & (detail >= _DETAIL)
    rows = np.flatnonzero(found)  # few
    colours = np.abs(these[rows, _HASH:].astype(np.int16) - those[rows, _HASH:])
    found[rows] = colours.max(1, initial=0) <= _COLOUR
    return found


def near(prints: Prints) -> npt.NDArray[np.int64]:
    """The pairs of fingerprints that are alike, as rows of two indices.

    All are compared that share 22 of the hash's bits in one of 24 random choices of bits (locality-sensitive hashing:
    P. Indyk and R. Motwani, 1998), each with at most the 64 that follow it in the order of these and further bits. Of
    two hashes that differ in 9 bits it misses one in 10^5, in 16 bits one in 700, in 24 bits one in 18. Memory grows
    with the number of fingerprints, not of comparisons.
    """
    found = [np.empty((0, 2), np.int64)]
    for table in range(_TABLES):
        keys = _keys(prints, table)
        order = np.argsort(keys)
        shared = keys[order] >> np.uint64(64 - _SHARED)
        left = np.arange(len(order))
        for step in range(1, _WINDOW + 1):
            left = left[left + step < len(order)]
            left = left[shared[left] == shared[left + step]]
            if not len(left):
                break
            one, other = order[left], order[left + step]
            for start in range(0, len(left), _CHUNK):
                part = slice(start, start + _CHUNK)
                same = alike(prints[one[part]], prints[other[part]])
                found.append(np.stack([one[part][same], other[part][same]], 1))
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _keys(prints: Prints, table: int) -> npt.NDArray[np.uint64]:
    """64 bits of every hash, chosen at random for a table, as one number each."""
    bits = np.random.default_rng(table).permutation(8 * _HASH)[:64]
    keys = np.empty(len(prints), np.uint64)
    for start in range(0, len(prints), _CHUNK):
        part = slice(start, start + _CHUNK)
        chosen = np.unpackbits(prints[part, :_HASH], axis=1)[:, bits]
        keys[part] = np.ascontiguousarray(np.packbits(chosen, axis=1)).view(">u8").ravel()
    return keys
