"""The report's confusion matrices."""

from collections.abc import Iterator
from dataclasses import dataclass

from attrloop.components.results.metrics import OFF_LIST, Confusion
from attrloop.components.results.reader import Results

_CELLS = 12_000  # of all matrices together: keeps the page light for big schemas
Cell = tuple[int, float, bool]  # count, fraction of its row, whether it is right


@dataclass(frozen=True)
class Heat:
    """One stage's confusion matrix as the page shows it.

    Attributes:
        stage: its name.
        accuracy: the attribute's accuracy, in [0, 1].
        columns: the answers; the last one is off-list.
        rows: (gold value, cells); a cell is None for a count of 0.
    """

    stage: str
    accuracy: float
    columns: list[str]
    rows: list[tuple[str, list[Cell | None]]]


@dataclass(frozen=True)
class Heats:
    """The confusion matrices of one attribute, one for each stage that is compared."""

    vertical: str
    attribute: str
    tables: list[Heat]


def confusions(results: Results) -> Iterator[Heats]:
    """The matrices of base, the reference and the best stage, as long as the page stays light."""
    stages = list(dict.fromkeys(stage for stage in ("base", results.reference, results.best) if stage in results.shown))
    budget = _CELLS
    for vertical, entry in results.shown[results.best].verticals.items():
        for attribute in entry.attributes:
            found = {stage: results.shown[stage].verticals[vertical].attributes[attribute] for stage in stages}
            values, gold = _occurring([scores.confusion for scores in found.values()])
            tables = [
                Heat(stage, scores.accuracy, values, _rows(scores.confusion, gold, values))
                for stage, scores in found.items()
            ]
            budget -= len(tables) * len(gold) * len(values)
            if budget < 0:
                return
            yield Heats(vertical, attribute, tables)


def _occurring(matrices: list[Confusion]) -> tuple[list[str], list[str]]:
    """The values that occur in any of several matrices, off-list last; and those of them that occur as gold."""
    cells = [cell for matrix in matrices for cell in matrix.cells]
    gold = {gold for gold, _ in cells}
    occurring = gold | {answer for _, answer in cells}
    named = dict.fromkeys(value for matrix in matrices for value in matrix.values if value != OFF_LIST)
    values = [value for value in named if value in occurring]
    return [*values, OFF_LIST], [value for value in values if value in gold]


def _rows(matrix: Confusion, gold: list[str], values: list[str]) -> list[tuple[str, list[Cell | None]]]:
    cells = matrix.cells
    rows: list[tuple[str, list[Cell | None]]] = []
    for value in gold:
        total = sum(count for (of, _), count in cells.items() if of == value)
        counts = [(cells.get((value, answer)), value == answer) for answer in values]
        rows.append((value, [(count, count / total, right) if count else None for count, right in counts]))
    return rows
