"""Shows the results of `arms` as a Markdown table: test macro accuracy by arm and seed, gain over SFT, verticals up.

python -m tests.experiments.table DIR/results.jsonl
"""

import json
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from attrloop.components.run.state import LoopState, Outcome
from attrloop.pipelines.demo.demo import demo_config

Row = dict[str, Any]


def spread(values: list[float]) -> str:
    """Mean and sample standard deviation, as text."""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def best(row: Row) -> str:
    """The stage that the demo's loop would have kept, with its early stop."""
    state = LoopState(outcomes=())
    for stage, accuracy in row["validation"].items():
        outcome = Outcome(stage=stage, adapter=stage.removeprefix("base"), macro=accuracy / 100)
        if stage in ("base", "sft"):
            state = LoopState(outcomes=(*state.outcomes, outcome))
        elif not state.stop:
            state = state.after(outcome, demo_config(Path()).loop.min_gain)
    return state.best.stage


def line(name: str, values: dict[int, float], gains: dict[int, float], seeds: list[int], up: str = "") -> str:
    """A row of the table; values and gains are by seed."""
    cells = [f"{values[seed]:.1f}" if seed in values else "" for seed in seeds]
    gain = spread(list(gains.values())) if gains else ""
    return f"| {name} | {' | '.join(cells)} | {spread(list(values.values()))} | {gain} | {up} |"


def table(rows: list[Row]) -> list[str]:
    """The lines of the table: base, SFT, every stage of every arm, and the best stage of arms with several."""
    runs = [row for row in rows if row["arm"] != "majority_voting"]
    seeds = sorted({row["seed"] for row in rows})
    sft = {row["seed"]: row["test"]["sft"] for row in runs}
    lines = [
        f"| | {' | '.join(f'seed {seed}' for seed in seeds)} | mean | gain over SFT | verticals up |",
        f"|---|{'---|' * len(seeds)}---|---|---|",
    ]
    lines += [line(stage, {row["seed"]: row["test"][stage] for row in runs}, {}, seeds) for stage in ("base", "sft")]
    for arm in dict.fromkeys(row["arm"] for row in runs):
        mine = {row["seed"]: row for row in runs if row["arm"] == arm}
        stages = [stage for stage in next(iter(mine.values()))["test"] if stage not in ("base", "sft")]
        chosen: dict[str, dict[int, str]] = {f"{arm}, {stage}": dict.fromkeys(mine, stage) for stage in stages}
        if len(stages) > 1:
            chosen[f"{arm}, up to three"] = {seed: best(row) for seed, row in mine.items()}
        for name, stage in chosen.items():
            values = {seed: row["test"][stage[seed]] for seed, row in mine.items()}
            lines.append(
                line(
                    name,
                    values,
                    {seed: value - sft[seed] for seed, value in values.items()},
                    seeds,
                    verticals_up(mine, stage),
                )
            )
    for view in ("first", "each"):
        values = {row["seed"]: row["test"][view] for row in rows if row["arm"] == "majority_voting"}
        if values:
            lines.append(
                line(
                    f"majority voting, {view}",
                    values,
                    {seed: value - sft[seed] for seed, value in values.items()},
                    seeds,
                )
            )
    return lines


def verticals_up(rows: dict[int, Row], stage: dict[int, str]) -> str:
    """How many verticals are better than after SFT, seed by seed."""
    counts = []
    for seed, row in sorted(rows.items()):
        after, before = row["test_verticals"][stage[seed]], row["test_verticals"]["sft"]
        counts.append(sum(after[vertical] > before[vertical] for vertical in before))
    return ", ".join(map(str, counts))


if __name__ == "__main__":
    print("\n".join(table([json.loads(text) for text in Path(sys.argv[1]).read_text().splitlines()])))
