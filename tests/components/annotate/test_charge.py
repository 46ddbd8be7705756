"""What a reply is charged with when the endpoint's count cannot be right."""

import json
from dataclasses import replace

import pytest

from attrloop.components.annotate.annotate import annotate
from attrloop.components.annotate.charge import charge, cost_limit
from attrloop.components.annotate.request import answer_model, make_request
from attrloop.components.catalogue.records import Listing
from attrloop.components.catalogue.schema import load_schema
from tests.components.annotate.shop import answer, chat, report_of

RIGHT = {"prompt_tokens": 1500, "completion_tokens": 120}
WRONG = {
    "nothing": None,
    "an empty object": {},
    "a list": [1, 2],
    "text": "1500",
    "zeros": {"prompt_tokens": 0, "completion_tokens": 0},
    "other names": {"input_tokens": 1500, "output_tokens": 120},
    "negative": {"prompt_tokens": -1_000_000, "completion_tokens": -5},
    "numbers in text": {"prompt_tokens": "1500", "completion_tokens": "many"},
    "endless": {"prompt_tokens": 1e300, "completion_tokens": 1},
    "infinite": {"prompt_tokens": float("inf"), "completion_tokens": float("nan")},
    "truth values": {"prompt_tokens": True, "completion_tokens": True},
    "half a token": {"prompt_tokens": 1500.5, "completion_tokens": 120},
    "nulls": {"prompt_tokens": None, "completion_tokens": None},
    "too few to be read": {"prompt_tokens": 1, "completion_tokens": 120},
    "too few to be written": {"prompt_tokens": 1500, "completion_tokens": 1},
    "a total below the parts": {"prompt_tokens": 1500, "completion_tokens": 120, "total_tokens": 10},
    "thinking of text": {"completion_tokens_details": {"reasoning_tokens": "4000"}} | RIGHT,
    "thinking without end": {"completion_tokens_details": {"reasoning_tokens": 1e300}} | RIGHT,
    "negative thinking": {"completion_tokens_details": {"reasoning_tokens": -4000}} | RIGHT,
    "details as a list": {"completion_tokens_details": [{"reasoning_tokens": 60}]} | RIGHT,
    "more pictures than all": {"prompt_tokens_details": {"image_tokens": 9000}} | RIGHT,
    "a total of text": {"prompt_tokens": 1500, "completion_tokens": 120, "total_tokens": "1620"},
}
REPLY = json.dumps({"shape": {"rationale": "The shade is round from every side.", "value": "round"}})


@pytest.fixture
def asked(shop):
    config = shop.config().annotate
    vertical = load_schema(shop.folder / "schema.yaml").verticals["lamp"]
    listing = Listing(id="lamp-0", vertical="lamp", images=("lamp-0.png",))
    return config, make_request(listing, vertical, answer_model(vertical), config, [])


@pytest.mark.parametrize("kind", WRONG)
def test_a_count_that_cannot_be_right_is_charged_as_the_upper_estimate(asked, kind):
    config, request = asked
    charged = charge(config, request, WRONG[kind], REPLY)
    assert charged.cost >= cost_limit(config, request, 0) and charged.cost < 1


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 1500, "completion_tokens": 120, "total_tokens": 5620},
        {
            "prompt_tokens": 1500,
            "completion_tokens": 120,
            "completion_tokens_details": {"reasoning_tokens": 4000},
            "total_tokens": 5620,
        },
        {"prompt_tokens": 1500, "completion_tokens": 120, "completion_tokens_details": {"reasoning_tokens": 4000}},
        {"prompt_tokens": 1500, "completion_tokens": 120, "output_tokens_details": {"reasoning_tokens": 4000}},
        {"prompt_tokens": 1500, "completion_tokens": 120, "reasoning_tokens": 4000},
    ],
)
def test_thinking_that_the_count_leaves_out_is_charged(asked, usage):
    config, request = asked
    charged = charge(config, request, usage, REPLY)
    assert charged.completion_tokens == 4120
    assert charged.cost >= max(cost_limit(config, request, 0), (1500 * 0.40 + 4120 * 1.60) / 1e6)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"total_tokens": 1620},
        {"completion_tokens_details": {"reasoning_tokens": 60, "audio_tokens": None}, "reasoning_tokens": 60},
        {"prompt_tokens_details": {"cached_tokens": 1500, "image_tokens": 800}, "completion_tokens_details": None},
    ],
)
def test_a_count_that_can_be_right_is_charged_as_it_is(asked, extra):
    config, request = asked
    charged = charge(config, request, {"prompt_tokens": 1500, "completion_tokens": 120.0} | extra, REPLY)
    assert charged == (1500, 120, pytest.approx((1500 * 0.40 + 120 * 1.60) / 1e6))


def test_a_count_that_leaves_out_the_pictures_is_not_believed(asked):
    config, request = asked
    request = replace(request, pictures=(b"x",) * 3)
    without = {"prompt_tokens": 160, "completion_tokens": 120}
    assert charge(config, request, without, REPLY).cost >= cost_limit(config, request, 3)
    assert charge(config, request, without | {"prompt_tokens": 160 + 3 * 85}, REPLY).prompt_tokens == 415


def test_a_reply_that_costs_more_than_estimated_is_charged_in_full(asked):
    config, request = asked
    charged = charge(config, request, {"prompt_tokens": 1500, "completion_tokens": 9000}, REPLY)
    assert charged.cost == pytest.approx((1500 * 0.40 + 9000 * 1.60) / 1e6) and charged.cost > cost_limit(
        config, request, 0
    )


@pytest.mark.parametrize("kind", WRONG)
def test_the_cap_holds_whatever_the_endpoint_counts_and_nothing_is_asked_twice(shop, endpoint, kind):
    wrong = {"usage": WRONG[kind]}
    endpoint.behave = lambda body, number: (200, json.dumps(json.loads(chat(json.dumps(answer(body)))) | wrong), {})
    settings = {"max_cost": 0.02, "train_per_vertical": 10, "concurrency": 4}
    uri = shop.workspace(**settings)
    annotate(uri)
    spent, asked = report_of(uri)["cost"], len(endpoint.bodies)
    assert 0 < spent <= 0.02 and report_of(uri)["stopped_at"] == "annotate.max_cost"
    annotate(uri)
    annotate(shop.workspace(**settings | {"train_per_vertical": 9}))
    assert len(endpoint.bodies) == asked and report_of(uri)["cost"] == pytest.approx(spent)
