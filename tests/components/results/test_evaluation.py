import json

from attrloop.components.evaluate.score import score
from attrloop.components.results.evaluation import METRICS, Evaluation
from tests.predictions import SCHEMA, drawn

# As the first version wrote it.
EARLIER = """
{"stage": "sft", "split": "test", "macro_accuracy": 0.5, "macro_accuracy_interval": [0.25, 0.75], "macro_f1": 0.4,
 "verticals": {"mug": {"accuracy": 0.5, "interval": [0.25, 0.75], "macro_f1": 0.4, "count": 4, "answer_entropy": 1.0,
   "gold_entropy": 0.8, "attributes": {"colour": {
     "accuracy": 0.5, "interval": [0.25, 0.75], "macro_f1": 0.4, "count": 4,
     "confusion": {"values": ["red", "blue", "off-list"], "matrix": [[1, 2, 0], [0, 1, 0], [0, 0, 0]]}}}}},
 "count": 4, "off_list_rate": 0.0, "abstention_rate": 0.0, "coverage_at_95_precision": 0.25,
 "expected_calibration_error": 0.125, "reliability": [{"low": 0.8, "count": 4, "confidence": 0.85, "accuracy": 0.5}],
 "chain_tokens_mean": 12.5, "answer_entropy": 1.0, "gold_entropy": 0.8}
"""


def test_a_file_of_an_earlier_version_says_what_it_said() -> None:
    found = Evaluation.model_validate_json(EARLIER)
    assert json.loads(found.model_dump_json()) == json.loads(EARLIER) | {"left_out": None}
    assert found.verticals["mug"].attributes["colour"].confusion.cells == {
        ("red", "red"): 1, ("red", "blue"): 2, ("blue", "blue"): 1,
    }  # fmt: skip


def test_an_evaluation_is_the_same_after_writing_and_reading() -> None:
    made = score(drawn(20, 0.6, 1), SCHEMA, resamples=50, seed=0, stage="sft", split="test")
    assert Evaluation.model_validate_json(made.model_dump_json()) == made


def test_every_metric_has_a_text_for_people() -> None:
    found = Evaluation.model_validate_json(EARLIER)
    assert {name: found.text(name) for name in METRICS} == {
        "macro_accuracy": "50.0%",
        "macro_f1": "0.40",
        "coverage_at_95_precision": "25.0%",
        "expected_calibration_error": "0.125",
        "off_list_rate": "0.0%",
        "abstention_rate": "0.0%",
        "chain_tokens_mean": "12.5",
        "answer_entropy": "1.00",
        "gold_entropy": "0.80",
    }
    assert found.model_copy(update={"macro_f1": float("nan")}).text("macro_f1") == ""
