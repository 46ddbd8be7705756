"""Endpoints that answer rubbish, refuse, are slow, full, or not there."""

import json
import time
import traceback
from contextlib import closing, suppress
from pathlib import Path

import pytest

from attrloop.components.annotate import openai_endpoint
from attrloop.components.annotate.annotate import annotate
from attrloop.components.annotate.cache import Cache
from attrloop.components.annotate.request import answer_model, make_request
from attrloop.components.catalogue.records import Listing
from attrloop.components.catalogue.schema import Attribute, Vertical
from attrloop.components.errors import InputError
from attrloop.components.preflight.services import check_annotator
from attrloop.components.run.config import AnnotateConfig
from attrloop.components.storage.opening import open_store
from tests.components.annotate.shop import answer, chat, labels_of, report_of
from tests.http_server import DRIPS, dripping, serving

ERROR = json.dumps({"error": {"message": "no such thing", "type": "x"}})


RUBBISH = {
    "prose": (chat("It is a mug."), "It is a mug."),
    "off the list": (chat(json.dumps({"shape": {"rationale": "r", "value": "oval"}})), "oval"),
    "a missing attribute": (chat("{}"), "Field required"),
    "no value at all": (
        chat(
            json.dumps(
                {"main pattern": {"rationale": "r", "value": "solid"}, "colours": {"rationale": "r", "value": []}}
            )
        ),
        "colours",
    ),
    "a refusal": (chat(None, refusal="I cannot help with that."), "I cannot help with that."),
    "a refusal without words": (chat(None, refusal=True), "refused or empty"),
    "a refusal as an object": (chat("{}", refusal={"why": "policy"}), "refused or empty"),
    "a refusal as a list": (chat(None, refusal=["policy"]), "refused or empty"),
    "nothing": (chat(None), "refused or empty"),
    "a truncated reply": (chat('{"shape": {"ratio', finish="length"), "cut off after 530 tokens"),
    "a reply truncated by Google": (chat('{"shape": {"ratio', finish="MAX_TOKENS"), "cut off after 530 tokens"),
    "a filtered reply": (chat(None, finish="content_filter"), "content filter"),
    "a reply filtered by Google": (chat(None, finish="SAFETY"), "content filter"),
    "a web page": ("<html>Welcome</html>", "Welcome"),
    "other JSON": (json.dumps({"hello": 1}), "hello"),
    "a JSON list": ("[]", "not a chat completion"),
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_an_annotator_that_answers_rubbish_stops_the_run_with_an_example_after_few_calls(shop, endpoint, kind):
    text, shown = RUBBISH[kind]
    endpoint.behave = lambda body, number: (200, text, {})
    with pytest.raises(InputError) as caught:
        annotate(shop.workspace(concurrency=1))
    message = str(caught.value)
    assert (
        shown in message
        and "annotate.max_failed = 0.3" in message
        and "listing " in message
        and endpoint.url in message
    )
    assert len(endpoint.bodies) < 8


def test_a_few_unusable_replies_are_counted_and_their_listings_replaced(shop, endpoint):
    endpoint.behave = lambda body, number: (200, chat("rubbish"), {}) if number == 3 else None
    uri = shop.workspace()
    annotate(uri)
    report = report_of(uri)
    assert (report["calls"], report["failed"]) == (9, 1) and "rubbish" in report["failures"][0]["why"]
    assert report["listings"]["train"] == {"mug": 2, "lamp": 2} and report["cost"] == pytest.approx(9 * 0.00056)


def test_unusable_replies_are_asked_again_once_the_endpoint_is_mended(shop, endpoint):
    uri = shop.workspace(concurrency=1)
    endpoint.behave = lambda body, number: (200, chat("rubbish"), {})
    with pytest.raises(InputError):
        annotate(uri)
    asked = len(endpoint.bodies)
    endpoint.behave = lambda body, number: None
    annotate(uri)
    assert report_of(uri)["calls"] == 8 and report_of(uri)["failed"] == 0
    assert report_of(uri)["cost"] == pytest.approx((8 + asked) * 0.00056)


UNSTORABLE = {
    "half a character": ('"I see \\ud83d"', "half a character"),
    "a NUL character": ('"I see \\u0000"', "NUL"),
    "an attribute twice": ('"I see it", "rationale": "I do not"', "given twice"),
    "a number without end": ("9" * 5_000, "a number of 5,000 digits"),
    "nesting without end": ("[" * 5_000, "nested deeper"),
    "no number": ("NaN", "NaN is not a number"),
}


@pytest.mark.parametrize("kind", UNSTORABLE)
@pytest.mark.parametrize("escaped", [True, False])
def test_a_reply_that_cannot_be_stored_is_unusable_and_its_listing_replaced(shop, endpoint, kind, escaped):
    rationale, shown = UNSTORABLE[kind]
    reply = f'{{"shape": {{"value": "round", "rationale": {rationale}}}}}'
    if not escaped:  # the half of a character itself is in the text, not its escape in JSON
        reply = reply.replace("\\ud83d", "\ud83d").replace("\\u0000", "\0")
    asked = []

    def behave(body: dict, number: int) -> tuple[int, str, dict] | None:
        if "Product: lamp" not in json.dumps(body) or asked:
            return None
        asked.append(number)
        return 200, chat(reply), {}

    endpoint.behave = behave
    uri = shop.workspace()
    annotate(uri)
    report = report_of(uri)
    assert report["failed"] == 1 and report["listings"]["train"] == {"mug": 2, "lamp": 2}
    if escaped:
        assert shown in report["failures"][0]["why"]


def test_a_value_in_another_spelling_is_taken_as_the_listed_one(shop, endpoint):
    def behave(body: dict, number: int) -> tuple[int, str, dict] | None:
        if "Product: mug" not in json.dumps(body):
            return None
        return (
            200,
            chat(
                json.dumps(
                    {
                        "main pattern": {"rationale": "r", "value": "STRIPY"},
                        "colours": {"rationale": "r", "value": ["Blue", "red"]},
                    }
                )
            ),
            {},
        )

    endpoint.behave = behave
    uri = shop.workspace()
    annotate(uri)
    values = {
        tuple(json.loads(line)[key] for key in ("attribute", "value"))
        for line in Path(uri, "annotate/labels.jsonl").read_text().splitlines()
    }
    assert values == {("main pattern", "striped"), ("colours", "red; blue"), ("shape", "round")}


def test_no_key_is_an_error_before_any_request(shop, endpoint, monkeypatch):
    monkeypatch.delenv("ANNOTATOR_KEY")
    with pytest.raises(
        InputError, match=r"no key: the environment variable ANNOTATOR_KEY is not set. export ANNOTATOR_KEY"
    ):
        annotate(shop.workspace())
    assert not endpoint.bodies


def test_a_key_of_two_lines_is_an_error_that_does_not_show_it(shop, endpoint, monkeypatch):
    monkeypatch.setenv("ANNOTATOR_KEY", "sk-hunter2\nsk-hunter2")
    with pytest.raises(InputError, match=r"the environment variable ANNOTATOR_KEY: holds a line break") as caught:
        annotate(shop.workspace())
    assert "hunter2" not in "".join(traceback.format_exception(caught.value)) and not endpoint.bodies


@pytest.mark.parametrize("status", [400, 401, 404, 429])
def test_a_server_that_repeats_the_key_does_not_put_it_into_logs_or_files(shop, endpoint, key, status):
    endpoint.behave = lambda body, number: (
        (status, json.dumps({"error": {"message": f"no good: Bearer {key}", "type": "x"}}), {}) if number == 3 else None
    )
    uri, shown = shop.workspace(concurrency=1), ""
    try:
        annotate(uri)
    except InputError as error:
        shown = "".join(traceback.format_exception(error))
    assert bool(shown) == (status != 400) and key not in shown
    assert all(key.encode() not in path.read_bytes() for path in shop.folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "the key is refused .HTTP 401"),
        (403, "the key is refused"),
        (404, "model 'm' .HTTP 404.*no such thing"),
        (429, "quota or for too many"),
    ],
)
def test_a_hopeless_status_stops_after_one_request(shop, endpoint, status, message):
    endpoint.behave = lambda body, number: (status, ERROR, {})
    with pytest.raises(InputError, match=message):
        annotate(shop.workspace())
    assert len(endpoint.bodies) == 1


def test_an_unreachable_endpoint_is_named(shop):
    with pytest.raises(InputError, match=r"http://127.0.0.1:9/v1: the endpoint is out of reach after 0 retries"):
        annotate(shop.workspace(base_url="http://127.0.0.1:9/v1"))


def test_an_endpoint_that_goes_away_loses_nothing(shop, endpoint):
    uri = shop.workspace(concurrency=1)
    endpoint.behave = lambda body, number: (401, ERROR, {}) if number == 5 else None
    with pytest.raises(InputError):
        annotate(uri)
    annotate(uri)
    assert report_of(uri)["cached"] == 4 and report_of(uri)["calls"] == 4


def test_a_request_that_hangs_ends_with_the_timeout(shop, endpoint):
    def hang(body: dict, number: int) -> None:
        time.sleep(1.5)

    endpoint.behave = hang
    with pytest.raises(InputError, match=r"no whole answer within 0.2 s"):
        annotate(shop.workspace(timeout_s=0.2))


def test_rate_limits_are_waited_out_by_the_sdk_and_counted_as_attempts(shop, endpoint):
    endpoint.behave = lambda body, number: (429, ERROR, {"Retry-After": "0.05"}) if number in (1, 4) else None
    uri = shop.workspace(retries=2)
    annotate(uri)
    assert (report_of(uri)["calls"], report_of(uri)["attempts"], report_of(uri)["failed"]) == (8, 10, 0)


def test_a_listing_that_the_server_rejects_is_replaced(shop, endpoint):
    endpoint.behave = lambda body, number: (400, ERROR, {}) if number == 2 else None
    uri = shop.workspace()
    annotate(uri)
    assert report_of(uri)["failures"][0]["why"].startswith("HTTP 400") and report_of(uri)["listings"]["test"] == {
        "mug": 1,
        "lamp": 1,
    }


def test_a_model_that_takes_no_temperature_is_asked_without(shop, endpoint):
    refusal = json.dumps(
        {"error": {"message": "Unsupported value: 'temperature' does not support 0", "type": "invalid_request_error"}}
    )
    endpoint.behave = lambda body, number: (400, refusal, {}) if "temperature" in body else None
    uri = shop.workspace()
    annotate(uri)
    assert report_of(uri)["failed"] == 0 and ["temperature" in body for body in endpoint.bodies] == [True] + [False] * 8


@pytest.mark.parametrize("what", DRIPS)
def test_a_reply_that_drips_ends_with_the_timeout_and_may_have_been_paid_for(shop, what):
    with serving(dripping(what)) as url:
        uri, started = shop.workspace(timeout_s=0.4, base_url=f"{url}/v1"), time.monotonic()
        with pytest.raises(InputError, match=r"no whole answer within 0.4 s.*raise annotate.timeout_s"):
            annotate(uri)
        assert time.monotonic() - started < 2
    with closing(Cache(open_store(uri))) as cache:
        assert cache.spent >= 0.0005 and cache.calls == 1


def test_a_list_of_models_that_drips_is_given_up(shop, monkeypatch):
    monkeypatch.setattr(openai_endpoint, "_CHECK_TIMEOUT", 0.4)
    with serving(dripping("headers")) as url:
        started = time.monotonic()
        finding = check_annotator(shop.config(base_url=url))
        assert "out of reach (no whole answer within 0.4 s)" in str(finding.problems[0])
        assert time.monotonic() - started < 2


def test_a_reply_of_many_bytes_is_not_read_to_its_end(shop, endpoint):
    body = chat("x" * 30_000_000)
    endpoint.behave = lambda b, number: (200, body, {}) if number == 2 else None
    uri = shop.workspace(concurrency=1)
    annotate(uri)
    assert report_of(uri)["failures"][0]["why"].startswith("larger than 10,000,000 bytes")


def test_a_compressed_reply_is_not_unpacked(shop, endpoint):
    endpoint.behave = lambda b, number: (200, "x", {"Content-Encoding": "gzip"}) if number == 2 else None
    uri = shop.workspace(concurrency=1)
    annotate(uri)
    assert report_of(uri)["failures"][0]["why"].startswith("the reply is compressed")


@pytest.mark.parametrize("encoding", ["Identity", "", " identity "])
def test_a_reply_that_is_said_to_be_uncompressed_is_read(shop, endpoint, encoding):
    headers = {"Content-Encoding": encoding}
    endpoint.behave = lambda body, number: (200, chat(json.dumps(answer(body))), headers)
    uri = shop.workspace()
    annotate(uri)
    assert report_of(uri)["failed"] == 0


@pytest.mark.parametrize("status", [302, 307])
def test_an_endpoint_that_redirects_stops_the_run_at_once_and_costs_nothing(shop, endpoint, key, status):
    target = f"http://bob:hunter2@other.example/v1?key={key}"
    endpoint.behave = lambda body, number: (status, "", {"Location": target})
    uri = shop.workspace()
    told = rf"redirects to http://other\.example/v1\?\.\.\. \(HTTP {status}\).* Correct annotate.base_url"
    with pytest.raises(InputError, match=told):
        annotate(uri)
    assert len(endpoint.bodies) == 1
    with closing(Cache(open_store(uri))) as cache:
        assert cache.spent == 0


READABLE = {
    "a fence": lambda text: chat(f"```json\n{text}\n```"),
    "a fence without a name": lambda text: chat(f"Here it is:\n```\n{text}\n```\n"),
    "thinking before it": lambda text: chat(f"<think>It is {{round}}, or so.</think>\n{text}"),
    "thinking and a fence": lambda text: chat(f"Round.</think>```json{text}```"),
    "parts": lambda text: chat([{"type": "text", "text": text[:9]}, {"type": "text", "text": text[9:]}]),
    "a whole reply at the limit": lambda text: chat(text, finish="length"),
}


@pytest.mark.parametrize("kind", READABLE)
def test_a_reply_that_can_be_read_is_not_thrown_away(shop, endpoint, kind):
    endpoint.behave = lambda body, number: (200, READABLE[kind](json.dumps(answer(body))), {})
    uri = shop.workspace()
    annotate(uri)
    assert (report_of(uri)["failed"], report_of(uri)["calls"]) == (0, 8)


@pytest.mark.parametrize(
    ("many", "values", "replied", "meant"),
    [
        (False, ["1", "2"], 2, "2"),
        (False, ["0.5", "1.5"], 0.5, "0.5"),
        (False, ["true", "false"], True, "true"),
        (True, ["1", "2", "3"], [3, "1"], "1; 3"),
        (True, ["dotted", "heart", "plain"], "Heart; dotted", "dotted; heart"),
        (True, ["dotted", "heart", "plain"], ["heart; dotted", "heart"], "dotted; heart"),
        (True, ["dotted", "heart", "plain"], "heart", "heart"),
        (False, ["1", "2"], 3, None),
        (True, ["dotted", "heart", "plain"], "heart; oval", None),
    ],
)
def test_a_value_is_read_as_it_is_meant(many, values, replied, meant):
    vertical = Vertical(attributes={"a": Attribute(values=values, many=many)})
    listing = Listing(id="1", vertical="mug", images=("a.jpg",))
    config = AnnotateConfig()
    request = make_request(listing, vertical, answer_model(vertical), config, [])
    text = json.dumps({"a": {"rationale": "r", "value": replied}})
    if meant is None:
        with pytest.raises(ValueError, match="Input should be"):
            request.read(text)
    else:
        assert request.read(text) == {"a": ("r", meant)}


@pytest.mark.parametrize("status", [502, 503, 504, 529])
def test_a_server_that_stays_down_stops_the_run_and_is_not_taken_for_a_blind_model(shop, endpoint, status):
    endpoint.behave = lambda body, number: (status, ERROR, {"Retry-After": "0.01"}) if number >= 3 else None
    uri = shop.workspace(concurrency=1, retries=1)
    with pytest.raises(InputError, match=f"down or overloaded: still HTTP {status} after 1 retries") as caught:
        annotate(uri)
    assert "sees images" not in str(caught.value) and "answers so far are kept" in str(caught.value)
    endpoint.behave = lambda body, number: None
    annotate(uri)
    assert report_of(uri)["cached"] == 2


def test_a_server_that_fails_over_a_listing_is_not_taken_for_a_blind_model(shop, endpoint):
    endpoint.behave = lambda body, number: (500, ERROR, {})
    with pytest.raises(InputError, match=r"HTTP 500.*Look at the server's log"):
        annotate(shop.workspace(concurrency=1))


def test_replies_without_room_for_thinking_are_asked_for_again_once_there_is_room(shop, endpoint):
    endpoint.behave = lambda body, number: (
        (200, chat('{"shape"', finish="length"), {}) if body["max_completion_tokens"] < 4000 else None
    )
    with pytest.raises(InputError, match=r"cut off after 530 tokens.*Raise annotate.thinking_tokens"):
        annotate(shop.workspace(concurrency=1))
    uri = shop.workspace(concurrency=1, max_failed=1.0)
    annotate_short = len(endpoint.bodies)
    with suppress(InputError):  # no vertical has a label
        annotate(uri)
    uri = shop.workspace(thinking_tokens=4000)
    annotate(uri)
    assert report_of(uri)["failed"] == 0 and len(endpoint.bodies) > annotate_short
    assert endpoint.bodies[-1]["max_completion_tokens"] in (4350, 4530)


def test_more_room_for_thinking_leaves_usable_replies_valid(shop, endpoint):
    annotate(shop.workspace())
    uri = shop.workspace(thinking_tokens=4000)
    annotate(uri)
    assert len(endpoint.bodies) == 8


def test_a_key_that_a_rationale_repeats_is_masked_however_it_is_written(shop, endpoint, key):
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in key)

    def repeat(body: dict, number: int) -> tuple[int, str, dict]:
        reply = answer(body)
        for entry in reply.values():
            entry["rationale"] = f"I was asked with {key if number % 2 else 'KEY'}."
        return 200, chat(json.dumps(reply).replace("KEY", escaped)), {}

    endpoint.behave = repeat
    uri = shop.workspace(concurrency=1)
    annotate(uri)
    assert {label["rationale"] for label in labels_of(uri)} == {"I was asked with ***."}
    assert all(key.encode() not in path.read_bytes() for path in shop.folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("status", "fault"),
    [(404, False), (405, False), (200, False), (307, False), (429, False), (500, False), (503, True), (401, True)],
)
def test_a_missing_list_of_models_is_no_fault_but_a_server_that_is_down_is(shop, endpoint, status, fault):
    endpoint.models = (status, "{}")
    finding = check_annotator(shop.config())
    assert bool(finding.problems) == fault
    assert fault or (finding.note and f"(HTTP {status})" in finding.detail and "shows later" in finding.detail)


def test_what_a_list_of_models_says_is_shown_briefly_and_without_the_key(shop, endpoint, key):
    names = [f"echo {key}", "\x1b[31mred", *["long" * 2_000] * 9]
    endpoint.models = (200, json.dumps({"data": [{"id": name} for name in names]}))
    detail = check_annotator(shop.config()).detail
    assert "it lists echo ***, \\x1b[31mred, long" in detail and key not in detail and len(detail) < 400
