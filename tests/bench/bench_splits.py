"""Measures deciding the splits of 0.1 and 1 million listings: time and peak memory, each in a process of its own.

    python -m tests.bench.bench_splits                # 100,000 and 1,000,000 listings
    python -m tests.bench.bench_splits 4000000

The photographs have made-up fingerprints, as uneven as those of photographs. One listing in ten shares the photograph
of another one, half of these as a copy. `first` decides the splits with an empty register, `again` with one that
remembers them all. Peak memory includes interpreter and libraries, not the listings themselves.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from attrloop.components.gold.fingerprint import LENGTH, Prints
from attrloop.components.gold.register import Register
from attrloop.components.gold.survey import Survey

_HASH = 32  # bytes of the hash, with which a fingerprint begins
_SHARED, _COPIES = 0.1, 0.5  # fraction of the listings with another's photograph, and of these with a copy of it


def prints(count: int, rng: np.random.Generator) -> Prints:
    """Fingerprints whose bits are set as often as those of photographs: from one in five to one in two."""
    often = rng.permutation(np.linspace(0.2, 0.5, 8 * _HASH)).astype(np.float32)
    found = np.empty((count, LENGTH), np.uint8)
    for start in range(0, count, 100_000):
        part = found[start : start + 100_000]
        part[:, :_HASH] = np.packbits(rng.random((len(part), 8 * _HASH), np.float32) < often, axis=1)
        part[:, _HASH:] = rng.integers(0, 256, (len(part), LENGTH - _HASH), np.uint8)
    return found


def catalogue(count: int) -> tuple[pl.DataFrame, int]:
    """What is known of the photographs of so many listings, and how many pairs share one."""
    rng = np.random.default_rng(0)
    every = prints(count, rng)
    photograph = rng.integers(0, 2**64, count, np.uint64)
    shared = int(count * _SHARED)
    copies = int(shared * _COPIES)
    every[:shared], photograph[copies:shared] = every[shared : 2 * shared], photograph[copies + shared : 2 * shared]
    for row in range(copies):  # a copy differs in a few bits
        place = rng.integers(0, 8 * _HASH, rng.integers(1, 12))
        np.bitwise_xor.at(every[row], place // 8, (1 << (place % 8)).astype(np.uint8))
    looked = pl.DataFrame(
        {"listing": [f"listing-{number:08d}" for number in range(count)], "photograph": photograph},
    ).with_columns(fingerprint=pl.Series([row.tobytes() for row in every], dtype=pl.Binary))
    return looked, shared


def measure(count: int, register: str) -> None:
    """Decides and remembers in the child process; prints seconds, those of processors, peak MiB, pairs and groups."""
    looked, planted = catalogue(count)
    ids = looked["listing"].to_list()
    known = Register(register)
    if not known.photographs.rows().height:
        names = looked.select(pl.col("listing").alias("name"), version=pl.lit("1"), photograph="photograph")
        known.photographs.add(names.with_columns(fingerprint=looked["fingerprint"]))
    started, before = time.perf_counter(), time.process_time()
    splits = Survey(ids, {}, known, looked).remember()
    seconds, busy = time.perf_counter() - started, time.process_time() - before
    in_groups = count - len(set(splits.group.values()))
    # Not getrusage: its maximum is inherited through exec from the parent process.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(seconds, busy, int(peak[1]) / 1024 if peak else float("nan"), planted, in_groups)


def run(count: int, register: Path) -> list[float]:
    """The numbers that `measure` prints."""
    name = __spec__.name if __spec__ else __name__
    command = [sys.executable, "-m", name, "--measure", str(count), str(register)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [float(number) for number in out.splitlines()[-1].split()]


def main(sizes: list[int]) -> None:
    table = Table("listings", "register", "seconds", "of a core", "peak MiB", "pairs planted", "found", "MiB on disk")
    for count in sizes:
        with tempfile.TemporaryDirectory() as folder:
            for state in ("first", "again"):
                seconds, busy, peak, planted, found = run(count, Path(folder))
                size = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet")) / 2**20
                row = (
                    f"{count:,}",
                    state,
                    f"{seconds:.1f}",
                    f"{busy:.1f}",
                    f"{peak:.0f}",
                    f"{planted:,.0f}",
                    f"{found:,.0f}",
                )
                table.add_row(*row, f"{size:.0f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(int(sys.argv[2]), sys.argv[3])
    else:
        main([int(size) for size in sys.argv[1:]] or [100_000, 1_000_000])
