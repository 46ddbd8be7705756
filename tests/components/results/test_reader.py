from pathlib import Path

import pytest

from attrloop.components.results.reader import Results
from attrloop.components.run import layout
from attrloop.components.run.manifest import finished
from tests.predictions import write_evaluation
from tests.tracked import answers, make_run


@pytest.mark.parametrize(("labels", "splits"), [("these", ["test", "validation"]), ("others", ["validation"])])
def test_an_evaluation_of_other_labels_is_no_result(tmp_path: Path, labels: str, splits: list[str]) -> None:
    run = make_run(tmp_path, accuracy={"base": 0.3, "sft": 0.6}, gold=2)
    made_from = {"labels": finished(run.ws.store, layout.ANNOTATE).digest if labels == "these" else labels}
    rows = answers(run.ws.labels("test"), run.ws, 0.9, 0)
    write_evaluation(run.ws, "sft", "test", rows, resamples=50, made_from=made_from)
    assert Results.of(run.uri, run.state).splits == splits
