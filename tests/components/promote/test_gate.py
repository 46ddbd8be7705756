import polars as pl
import pytest

from attrloop.components.catalogue.records import Prediction, to_frame
from attrloop.components.errors import InputError
from attrloop.components.promote.gate import judge
from attrloop.components.promote.ledger import Verdict
from attrloop.components.run.config import PromoteConfig
from tests.tracked import VERTICALS, Run, answers, make_run

CONFIG = PromoteConfig(resamples=500)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("gate"), accuracy={"base": 0.3, "sft": 0.5}, gold=40)


def frame(run: Run, fraction: float | dict[str, float], seed: int = 0) -> pl.DataFrame:
    return to_frame(answers(run.ws.labels("test"), run.ws, fraction, seed), Prediction)


def verdict(run: Run, candidate: pl.DataFrame, champion: pl.DataFrame, config: PromoteConfig = CONFIG) -> Verdict:
    return judge(candidate, champion, against="version 1", verticals=VERTICALS, config=config, seed=0)


def test_a_clear_gain_passes(run: Run) -> None:
    said = verdict(run, frame(run, 0.75), frame(run, 0.6))
    assert said.passed and said.macro is not None and 0 < said.macro.low < said.macro.delta < said.macro.high
    assert "version 1" in said.reason and set(said.verticals) == set(VERTICALS)


def test_an_equal_model_is_refused_for_want_of_gain(run: Run) -> None:
    said = verdict(run, frame(run, 0.6), frame(run, 0.6))
    assert not said.passed and "not significant" in said.reason and "worse" not in said.reason


def test_a_gain_that_breaks_one_vertical_is_refused_and_the_vertical_named(run: Run) -> None:
    said = verdict(run, frame(run, {"Café mug": 0.95, "desk lamp": 0.95, "rug": 0.3}), frame(run, 0.6))
    assert said.macro is not None and said.macro.low > 0
    assert not said.passed and "rug is significantly worse" in said.reason and "Café mug" not in said.reason


def test_a_vertical_that_falls_within_chance_does_not_stop_a_gain(run: Run) -> None:
    said = verdict(run, frame(run, {"Café mug": 0.9, "desk lamp": 0.9, "rug": 0.58}), frame(run, 0.6))
    assert said.passed, said.reason
    assert said.verticals["rug"].delta < 0


def test_models_that_are_equally_good_are_seldom_called_worse_in_a_vertical(run: Run) -> None:
    said = [verdict(run, frame(run, 0.6, 2 * seed + 1), frame(run, 0.6, 2 * seed)) for seed in range(40)]
    assert sum("worse" in one.reason for one in said) <= 6
    assert sum(one.passed for one in said) <= 3


def test_too_little_gold_blocks_and_says_where(run: Run) -> None:
    few = frame(run, 0.9).filter((pl.col("vertical") != "rug") | pl.col("listing").str.ends_with("-1"))
    said = verdict(run, few, frame(run, 0.5))
    assert (
        not said.passed
        and "too few gold labels" in said.reason
        and "rug (2)" in said.reason
        and "mug (" not in said.reason
    )
    none = few.filter(pl.col("vertical") != "rug")
    assert "rug (0)" in verdict(run, none, frame(run, 0.5)).reason, "a vertical without any gold is not forgotten"


def test_the_floor_holds_whatever_the_gain(run: Run) -> None:
    said = verdict(
        run,
        frame(run, {"Café mug": 0.9, "desk lamp": 0.9, "rug": 0.6}),
        frame(run, 0.5),
        PromoteConfig(resamples=500, floor=0.75),
    )
    assert not said.passed and "rug is below the floor" in said.reason


def test_every_broken_rule_is_told(run: Run) -> None:
    said = verdict(
        run,
        frame(run, {"Café mug": 0.6, "desk lamp": 0.6, "rug": 0.2}),
        frame(run, 0.6),
        PromoteConfig(resamples=500, floor=0.5),
    )
    assert all(
        part in said.reason for part in ("not significant", "rug is significantly worse", "rug is below the floor")
    )


def test_predictions_on_other_gold_are_an_error(run: Run) -> None:
    other = frame(run, 0.6).with_columns(gold=pl.lit("red"))
    with pytest.raises(InputError, match="gold"):
        verdict(run, frame(run, 0.6), other)
    with pytest.raises(InputError, match="cover"):
        verdict(run, frame(run, 0.6), frame(run, 0.6).head(200))
