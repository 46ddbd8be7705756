"""The annotator `openai`: any endpoint that speaks OpenAI's chat completions with structured output."""

import base64
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx2
import openai

from attrloop.components.annotate.annotator import Answer, Readiness, Unusable, excerpt
from attrloop.components.annotate.cache import CUT_OFF
from attrloop.components.annotate.charge import charge, cost_limit
from attrloop.components.annotate.request import Request
from attrloop.components.errors import Problem, fail, printable
from attrloop.components.run.config import AnnotateConfig
from attrloop.components.secrets import masked, public, secret
from attrloop.components.storage import bounded
from attrloop.components.storage.bounded import TooLarge

_CHECK_TIMEOUT = 10.0  # seconds
_LARGEST = 10_000_000  # bytes of a reply; the longest sensible ones have some thousands
_GATEWAYS = (408, 502, 504, 524)  # statuses of a proxy that has given up; the model behind it may have answered
# Why a model stopped, in the words of OpenAI, Anthropic, Mistral and Google.
_FULL = ("length", "max_tokens", "model_length", "max_output_tokens")
_FILTERED = ("content_filter", "safety", "recitation", "blocklist", "prohibited_content", "spii", "image_safety")


class _Dropped(openai.OpenAIError):
    """A request that is not tried again. The SDK lets its own errors pass."""


@dataclass
class _Exchange:
    """One request with all its tries.

    Attributes:
        again: see `Annotator.ask`.
        sent: whether the present try was sent whole, and no error status came back: it may be charged for.
        lost: earlier tries of which that was true.
    """

    again: Callable[[], bool]
    sent: bool = False
    lost: int = 0


class OpenAIEndpoint:
    """Follows `annotator.Annotator`.

    Attributes:
        attempts: HTTP requests sent, the SDK's retries included.

    Raises:
        InputError: there is no key, or it cannot be sent in a header.
    """

    def __init__(self, config: AnnotateConfig) -> None:
        self.config, self.attempts, self._key = config, 0, _key(config)
        self._temperature: float | openai.Omit = 0.0
        self._now = threading.local()  # `.exchange`: that of the request which this thread has in flight
        hooks = {"request": [self._begin], "response": [self._look]}
        self._http = bounded.client(config.timeout_s, _LARGEST, event_hooks=hooks)
        self._client = openai.OpenAI(
            api_key=self._key,
            base_url=config.base_url,
            timeout=config.timeout_s,
            max_retries=config.retries,
            http_client=self._http,
        )

    def _begin(self, request: httpx2.Request) -> None:
        exchange: _Exchange = self._now.exchange
        if exchange.sent:
            exchange.lost, exchange.sent = exchange.lost + 1, False
            if not exchange.again():
                raise _Dropped("its reply was lost, and annotate.max_cost leaves no room for another try")
        self.attempts += 1

        def trace(event: str, _: Any) -> None:
            exchange.sent = exchange.sent or event.endswith("send_request_body.complete")

        request.extensions["trace"] = trace

    def _look(self, response: httpx2.Response) -> None:
        if response.status_code >= 300 and response.status_code not in _GATEWAYS:
            self._now.exchange.sent = False
        if response.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity"):
            raise _Dropped("the reply is compressed, though none was asked for")

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def check(self) -> Readiness:
        """Asks the endpoint for its models, once. Not every endpoint has such a list.

        Raises:
            InputError: the key is refused, or the endpoint is out of reach or down.
        """
        config, where = self.config, self.config.base_url
        headers = {"Authorization": f"Bearer {self._key}"}
        try:
            with bounded.client(_CHECK_TIMEOUT, _LARGEST, headers=headers) as client:
                response = client.get(f"{where.rstrip('/')}/models")
        except TooLarge:
            return Readiness(f"{where} answers; its list of models is too long to be read", doubtful=True)
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            late = isinstance(error, httpx2.TimeoutException)
            cause = f"no whole answer within {_CHECK_TIMEOUT:g} s" if late else self._without_key(str(error))
            what = f"the endpoint is out of reach ({cause})"
            raise fail(where, what, "Correct annotate.base_url or start the server") from error
        status = response.status_code
        if status in (401, 403):
            raise self._refused(status)
        if status > 501:
            what = f"the endpoint is down or overloaded (GET /models answers HTTP {status})"
            raise fail(where, what, "Look at the server, or try again later")
        names = _models(response)
        if status != 200 or not names:
            what = (
                f"{where} answers, but has no list of models (HTTP {status}): whether it has {config.model} shows later"
            )
            return Readiness(what, doubtful=True)
        if any(name == config.model or name.endswith(f"/{config.model}") for name in names):
            return Readiness(f"{where} answers")
        listed = excerpt(printable(self._without_key(", ".join(names[:5]))))
        return Readiness(f"{where} answers, but does not list {config.model} (it lists {listed})", doubtful=True)

    def ask(self, request: Request, again: Callable[[], bool]) -> Answer:
        """Sends one chat completion; the SDK retries it with back-off.

        Returns:
            The answer; `failed` when the reply is a refusal, is cut off, is too large, or the server rejects this
            request.

        Raises:
            Unusable: the key is refused, model or address is unknown, the quota is used up, or the endpoint is down or
                out of reach.
        """
        exchange = self._now.exchange = _Exchange(again)
        limit = cost_limit(self.config, request, len(request.pictures))
        try:
            response = self._send(request).http_response
        except (_Dropped, TooLarge) as error:
            return Answer("", str(error), cost=(exchange.lost + exchange.sent) * limit)
        except openai.APIStatusError as error:
            cost = (exchange.lost + exchange.sent) * limit
            self._raise_if_hopeless(error, cost)
            return Answer(self._without_key(error.message), f"HTTP {error.status_code}", cost=cost)
        except openai.APIConnectionError as error:
            raise self._out_of_reach(error, (exchange.lost + exchange.sent) * limit) from error
        return self._read(request, response, exchange.lost * limit)

    def _send(self, request: Request) -> Any:
        try:
            return self._client.chat.completions.with_raw_response.parse(
                model=self.config.model,
                messages=_messages(request),  # type: ignore[arg-type]
                response_format=request.reply,
                max_completion_tokens=request.max_tokens,
                temperature=self._temperature,
            )
        except openai.BadRequestError as error:
            if "temperature" not in error.message or self._temperature is openai.omit:
                raise
            self._temperature = openai.omit  # reasoning models accept only their own
            return self._send(request)

    def _read(self, request: Request, response: httpx2.Response, lost: float) -> Answer:
        usage, text, failed = None, "", "not a chat completion"
        try:
            body = response.json()
            usage = body.get("usage")
            text, failed = _content(body["choices"][0], request.max_tokens)
            if failed.startswith(CUT_OFF):
                with suppress(ValueError):  # it ended at the very limit if it can be read
                    request.read(text)
                    failed = ""
        except (ValueError, AttributeError, TypeError, LookupError, RecursionError):
            pass  # servers send wrong JSON of any shape
        text = text or response.text
        charged = charge(self.config, request, usage, text)
        return Answer(
            self._without_key(text), failed, charged.prompt_tokens, charged.completion_tokens, charged.cost + lost
        )

    def _raise_if_hopeless(self, error: openai.APIStatusError, cost: float) -> None:
        # Raised without the cause: its text may hold the key.
        where, status = self.config.base_url, error.status_code
        message = excerpt(self._without_key(error.message))
        later = "then run again: answers so far are kept"
        if status in (401, 403):
            raise self._refused(status, cost) from None
        if error.response.is_redirect:
            target = public(excerpt(self._without_key(error.response.headers.get("Location", "no address"))))
            what = f"the address redirects to {target} (HTTP {status}), and redirects are not followed"
            raise Unusable(Problem(where, what, "Correct annotate.base_url"), cost) from None
        if status == 404:
            what = f"no such address or model {self.config.model!r} (HTTP 404: {message})"
            remedy = "Correct annotate.base_url (it usually ends in /v1) or annotate.model"
            raise Unusable(Problem(where, what, remedy), cost) from None
        if status == 429:
            what = (
                f"still refuses for lack of quota or for too many requests after {self.config.retries} retries "
                f"({message})"
            )
            remedy = f"Check the account's limits or lower annotate.concurrency, {later}"
            raise Unusable(Problem(where, what, remedy), cost) from None
        if status > 500 or status == 408:
            what = f"is down or overloaded: still HTTP {status} after {self.config.retries} retries ({message})"
            remedy = f"Look at the server, wait, or raise annotate.retries, {later}"
            raise Unusable(Problem(where, what, remedy), cost) from None

    def _refused(self, status: int, cost: float = 0.0) -> Unusable:
        remedy = f"Set the environment variable {self.config.key_env} to a valid key"
        return Unusable(Problem(self.config.base_url, f"the key is refused (HTTP {status})", remedy), cost)

    def _out_of_reach(self, error: openai.APIConnectionError, cost: float) -> Unusable:
        timeout = isinstance(error, openai.APITimeoutError)
        cause = (
            f"no whole answer within {self.config.timeout_s:g} s"
            if timeout
            else self._without_key(str(error.__cause__ or error))
        )
        what = f"the endpoint is out of reach after {self.config.retries} retries ({cause})"
        slow = ", raise annotate.timeout_s" if timeout else ""
        remedy = f"Correct annotate.base_url{slow} or start the server, then run again: answers so far are kept"
        return Unusable(Problem(self.config.base_url, what, remedy), cost)

    def _without_key(self, text: str) -> str:
        return masked(text, self._key)


def _key(config: AnnotateConfig) -> str:
    """The key, which comes from the environment only."""
    if key := secret(config.key_env):
        return key
    remedy = (
        f"export {config.key_env}=... (any text for an endpoint that needs no key), or name another variable in "
        "annotate.key_env"
    )
    raise fail("annotate.key_env", f"no key: the environment variable {config.key_env} is not set", remedy)


def _messages(request: Request) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": request.text}]
    for picture in request.pictures:
        url = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return [{"role": "system", "content": request.instructions}, {"role": "user", "content": parts}]


def _content(choice: Any, max_tokens: int) -> tuple[str, str]:
    """The text of a reply, and why it is unusable ("" when it is not)."""
    message, finish = choice["message"], str(choice.get("finish_reason")).lower()
    text, refusal = message.get("content"), message.get("refusal")
    if isinstance(text, list):
        text = "".join(part["text"] for part in text if part.get("type") == "text")
    text = text if isinstance(text, str) else ""
    told = refusal if isinstance(refusal, str) else ""
    if finish in _FULL:
        return text, f"{CUT_OFF} after {max_tokens} tokens"
    if finish in _FILTERED:
        return text, "stopped by the content filter"
    return (text, "") if text and not refusal else (told or text, "refused or empty")


def _models(response: httpx2.Response) -> list[str]:
    try:
        return [str(entry["id"]) for entry in response.json()["data"]]
    except (ValueError, LookupError, TypeError, RecursionError):
        return []
