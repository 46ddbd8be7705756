"""The annotator `openai`: any endpoint that speaks OpenAI's chat completions with structured output."""

import base64
from contextlib import suppress
from typing import Any

import httpx2
import openai

from attrloop.components.annotate.annotator import Answer, Readiness, excerpt
from attrloop.components.annotate.request import Request, price
from attrloop.components.errors import InputError, fail
from attrloop.components.run.config import AnnotateConfig
from attrloop.components.secrets import secret

_CHECK_TIMEOUT = 10.0  # seconds


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
        self._http = httpx2.Client(timeout=config.timeout_s, event_hooks={"request": [self._count]})
        self._client = openai.OpenAI(
            api_key=self._key,
            base_url=config.base_url,
            timeout=config.timeout_s,
            max_retries=config.retries,
            http_client=self._http,
        )

    def _count(self, _: httpx2.Request) -> None:
        self.attempts += 1

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def check(self) -> Readiness:
        """Asks the endpoint for its models, once.

        Raises:
            InputError: the key is refused, or the address is not that of an OpenAI-compatible API.
        """
        config, where = self.config, self.config.base_url
        try:
            url, headers = f"{where.rstrip('/')}/models", {"Authorization": f"Bearer {self._key}"}
            response = httpx2.get(url, headers=headers, timeout=_CHECK_TIMEOUT)
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            what = f"the endpoint is out of reach ({error})"
            raise fail(where, what, "Correct annotate.base_url or start the server") from error
        if response.status_code in (401, 403):
            raise self._refused(response.status_code)
        if response.status_code != 200:
            what = f"no OpenAI-compatible API: GET /models answers HTTP {response.status_code}"
            raise fail(where, what, "Correct annotate.base_url; it usually ends in /v1")
        names = _models(response)
        if any(name == config.model or name.endswith(f"/{config.model}") for name in names):
            return Readiness(f"{where} answers")
        listed = ", ".join(names[:5]) or "nothing"
        return Readiness(f"{where} answers, but does not list {config.model} (it lists {listed})", doubtful=True)

    def ask(self, request: Request) -> Answer:
        """Sends one chat completion; the SDK retries it with back-off.

        Returns:
            The answer; `failed` when the reply is a refusal, is cut off, or the server rejects this request.

        Raises:
            InputError: the key is refused, model or address is unknown, the quota is used up, or the endpoint is out of
                reach.
        """
        try:
            return self._read(self._send(request).http_response)
        except openai.APIStatusError as error:
            self._raise_if_hopeless(error)
            return Answer(self._without_key(error.message), f"HTTP {error.status_code}")
        except openai.APIConnectionError as error:
            raise self._out_of_reach(error) from error

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

    def _read(self, response: httpx2.Response) -> Answer:
        tokens, text, failed = (0, 0), "", "not a chat completion"
        with suppress(ValueError, AttributeError, TypeError, LookupError):  # servers send wrong JSON of any shape
            body = response.json()
            usage = body.get("usage") or {}
            tokens = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
            text, failed = _content(body["choices"][0], tokens[1])
        return Answer(self._without_key(text or response.text), failed, *tokens, price(self.config, *tokens))

    def _raise_if_hopeless(self, error: openai.APIStatusError) -> None:
        # Raised without the cause: its text may hold the key.
        where, status = self.config.base_url, error.status_code
        message = excerpt(self._without_key(error.message))
        if status in (401, 403):
            raise self._refused(status) from None
        if status == 404:
            what = f"no such address or model {self.config.model!r} (HTTP 404: {message})"
            raise fail(where, what, "Correct annotate.base_url (it usually ends in /v1) or annotate.model") from None
        if status == 429:
            what = (
                f"still refuses for lack of quota or for too many requests after {self.config.retries} retries "
                f"({message})"
            )
            remedy = "Check the account's limits or lower annotate.concurrency, then run again: answers so far are kept"
            raise fail(where, what, remedy) from None

    def _refused(self, status: int) -> InputError:
        remedy = f"Set the environment variable {self.config.key_env} to a valid key"
        return fail(self.config.base_url, f"the key is refused (HTTP {status})", remedy)

    def _out_of_reach(self, error: openai.APIConnectionError) -> InputError:
        timeout = isinstance(error, openai.APITimeoutError)
        cause = f"no answer within {self.config.timeout_s:g} s" if timeout else str(error.__cause__ or error)
        what = f"the endpoint is out of reach after {self.config.retries} retries ({cause})"
        remedy = "Correct annotate.base_url or start the server, then run again: answers so far are kept"
        return fail(self.config.base_url, what, remedy)

    def _without_key(self, text: str) -> str:
        """A server's text with the key replaced by `***`. Keys under 8 characters are placeholders and stay."""
        return text.replace(self._key, "***") if len(self._key) >= 8 else text


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


def _content(choice: Any, completion_tokens: int) -> tuple[str, str]:
    """The text of a reply, and why it is unusable ("" when it is not)."""
    message, finish = choice["message"], choice.get("finish_reason")
    text, refusal = message.get("content"), message.get("refusal")
    text = text if isinstance(text, str) else ""
    told = refusal if isinstance(refusal, str) else ""
    if finish == "length":
        return text, f"cut off after {completion_tokens} tokens"
    if finish == "content_filter":
        return text, "stopped by the content filter"
    return (text, "") if text and not refusal else (told or text, "refused or empty")


def _models(response: httpx2.Response) -> list[str]:
    try:
        return [str(entry["id"]) for entry in response.json()["data"]]
    except (ValueError, LookupError, TypeError):
        return []
