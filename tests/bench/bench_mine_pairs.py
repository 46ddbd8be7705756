"""Measures mining at 0.1, 1 and 10 million chains: wall time and peak memory, each size in a process of its own.

    python -m tests.bench.bench_mine_pairs                # 0.1 and 1 million
    python -m tests.bench.bench_mine_pairs 100000 10000000

Peak memory includes interpreter and libraries. `base` is the peak of a process that mines 1,000 chains.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.table import Table

from attrloop.components.console import PlainConsole
from tests.bench.chains import STAGE, workspace, world


def measure(workspace_uri: str) -> None:
    """Mines in the child process and prints seconds and peak MiB as the last line."""
    from attrloop.components.mine_pairs.mine import mine

    started = time.perf_counter()
    mine(workspace_uri, STAGE)
    # Not getrusage: its maximum is inherited through exec from the process that made the chains.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(time.perf_counter() - started, int(peak[1]) / 1024 if peak else float("nan"))


def run(chains: int, folder: Path) -> tuple[float, float, float]:
    """Seconds, peak MiB and MiB of chains on disk."""
    ws = workspace(folder)
    world(ws, chains)
    size = sum(path.stat().st_size for path in ws.store.folder(f"{STAGE}/chains").glob("*.parquet")) / 2**20
    out = subprocess.run(
        [sys.executable, "-m", __spec__.name if __spec__ else __name__, "--measure", ws.store.root],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    seconds, peak = map(float, out.splitlines()[-1].split())
    return seconds, peak, size


def main(sizes: list[int]) -> None:
    table = Table(
        "chains",
        "on disk MiB",
        "seconds",
        "chains/s",
        "peak MiB",
        "chains ratio",
        "time ratio",
        "peak ratio",
        title="mine_pairs",
    )
    first: tuple[int, float, float] | None = None
    with tempfile.TemporaryDirectory() as folder:
        _, base, _ = run(1_000, Path(folder, "base"))
        for chains in sizes:
            seconds, peak, size = run(chains, Path(folder, str(chains)))
            first = first or (chains, seconds, peak)
            ratios = (chains / first[0], seconds / first[1], peak / first[2])
            table.add_row(
                f"{chains:,}",
                f"{size:.0f}",
                f"{seconds:.1f}",
                f"{chains / seconds:,.0f}",
                f"{peak:.0f}",
                *(f"{ratio:.2f}" for ratio in ratios),
            )
    PlainConsole(width=120).print(table, f"base: {base:.0f} MiB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2])
    else:
        main([int(size) for size in sys.argv[1:]] or [100_000, 1_000_000])
