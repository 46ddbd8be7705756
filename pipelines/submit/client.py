"""A Kubeflow Pipelines server, reached through the official client; requests are repeated while it does not answer."""

import io
import json
import re
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any, TypeVar

import kfp
from google.api_core.exceptions import RetryError
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError
from kfp_server_api import ApiException, Configuration
from urllib3.exceptions import HTTPError, LocationValueError

from attrloop.components.errors import AttrloopError, fail
from attrloop.components.tracking.server import shown_uri
from attrloop.pipelines.submit.auth import credentials

T = TypeVar("T")
TIMEOUT = (10.0, 60.0)  # seconds to connect and to answer; an upload is well below a megabyte
_CONFLICT, _DENIED, _TRANSIENT = 409, (401, 403), (408, 429, 502, 503, 504)


class Unreachable(AttrloopError):
    """The server did not answer, or denied access."""


class _Client(kfp.Client):
    """The official client; reports which address it uses before it uses it."""

    def __init__(self, goes_to: Callable[[str], None], **given: Any) -> None:
        self._goes_to = goes_to
        super().__init__(**given)

    def _load_config(self, host: str | None, *given: Any) -> Configuration:
        config = super()._load_config(host, *given)
        if not host and config.host == Configuration().host:  # the official client would try this very machine
            raise fail(
                "--host",
                "no server is named, and there is neither a pod's cluster nor a kubeconfig to find one in",
                "Give --host or KF_PIPELINES_ENDPOINT",
            )
        address, refresh = config.host.rstrip("/"), config.refresh_api_key_hook

        def keep_address(config: Configuration) -> None:
            if refresh:  # a kubeconfig's hook sets the host again, to that of the cluster itself
                refresh(config)
            config.host = address

        config.host, config.refresh_api_key_hook = address, keep_address
        self._goes_to(address)
        return config

    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
        """Called on construction.

        The official client's method tries five times with pauses, whatever the answer, and for ever if none comes.
        """
        return self._healthz_api.healthz_service_get_healthz(_request_timeout=TIMEOUT)


class Kubeflow:
    """A server. Requests are repeated with growing pauses while it is down (dropped connections, 429, 502 to 504).

    Args:
        host: URL of the server; "" to let the official client find one (KF_PIPELINES_ENDPOINT, the cluster it runs in,
            kubeconfig).
        namespace: of a multi-user server; "" for a single-user one.
        auth: see `credentials`.
        patience: how long a request is repeated, in seconds.
        timeout: seconds to connect, and to wait for an answer.
        tell: gets a line when a request is repeated.

    Raises:
        InputError: `host` is not an address; and as `credentials`.
    """

    def __init__(
        self,
        host: str = "",
        *,
        namespace: str = "",
        auth: str = "",
        patience: float = 120,
        timeout: tuple[float, float] = TIMEOUT,
        tell: Callable[[str], None] = print,
    ) -> None:
        self.namespace, self.patience = namespace, patience
        self._host = self._address = host.rstrip("/")
        self._auth, self._timeout, self._tell = auth, timeout, tell
        self._client: kfp.Client | None = None
        if host and not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", host):
            raise fail(
                f"--host {shown_uri(host)}",
                "not the address of a server",
                "Give http(s)://HOST[:PORT][/PATH], with nothing after it",
            )
        credentials(auth)

    def call(self, what: str, do: Callable[[kfp.Client], T], repeat: tuple[int, ...] = ()) -> T:
        """Calls the server.

        Args:
            what: names the call in errors, as in 'could not <what>'.
            do: makes the call; must be safe to repeat.
            repeat: more HTTP statuses after which the call is repeated.

        Raises:
            Unreachable: no answer within `patience`, or the server denies access.
            AttrloopError: the server refused.
        """
        told: list[str] = []

        def attempt() -> T:
            try:
                return self._once(do)
            except ApiException as error:
                if error.status != 401:
                    raise
                self._client = None  # a token may have expired; connecting again gets a new one
                return self._once(do)

        def on_error(error: Exception) -> None:
            if not told and not (isinstance(error, ApiException) and error.status in repeat):
                told.append(
                    f"Kubeflow at {self._shown()} did not {what}: {_reason(error)}. "
                    f"Trying again for up to {self.patience:.0f} s"
                )
                self._tell(told[0])

        retrying = Retry(
            predicate=lambda error: _transient(error) or (isinstance(error, ApiException) and error.status in repeat),
            initial=0.5,
            maximum=15,
            timeout=self.patience,
            on_error=on_error,
        )
        try:
            return retrying(attempt)()
        except RetryError as error:
            raise Unreachable(
                f"Kubeflow at {self._shown()} did not {what} within {self.patience:.0f} s: {_reason(error.cause)}. "
                "Check --host."
            ) from error
        except ApiException as error:
            where = f"Kubeflow at {self._shown()} refused to {what}: {_reason(error)}."
            raise (
                Unreachable(f"{where} Check --auth and --namespace.")
                if error.status in _DENIED
                else AttrloopError(where)
            ) from error
        except (GoogleAuthError, HTTPError) as error:
            raise Unreachable(f"could not {what} at {self._shown()}: {error}. Check --host and --auth.") from error

    def ensure(
        self, what: str, find: Callable[[kfp.Client], T | None], make: Callable[[kfp.Client], T]
    ) -> tuple[T, bool]:
        """Finds a thing or makes it. After a failure, looks it up again, so that a lost answer creates no second one.

        Returns:
            The thing, and whether it was made.
        """
        made = False

        def do(client: kfp.Client) -> T:
            nonlocal made
            if (found := find(client)) is not None:
                return found
            made = True
            return make(client)

        return self.call(what, do, repeat=(_CONFLICT,)), made

    def link(self, page: str) -> str:
        """Address of a page of the UI, e.g. `runs/details/<id>`."""
        return f"{self._shown()}/#/{page}"

    def _once(self, do: Callable[[kfp.Client], T]) -> T:
        with redirect_stdout(io.StringIO()):  # the client prints links
            self._client = self._client or self._connect()
            return do(self._client)

    def _connect(self) -> kfp.Client:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client = _Client(
                self._goes_to,
                host=self._host or None,
                namespace=self.namespace or "kubeflow",
                **credentials(self._auth),
            )
        api = client._run_api.api_client
        send = api.request

        def request(*given: Any, **named: Any) -> Any:
            try:
                response = send(
                    *given, **(named | {"_request_timeout": named.get("_request_timeout") or self._timeout})
                )
                # The client would read a web page as an empty answer.
                if "html" in (response.getheader("Content-Type") or ""):
                    raise ApiException(status=401, reason="a web page in place of an answer, such as a login page")
                return response
            except ApiException as error:
                error.body = error.body or b""  # the client decodes it, although its own errors (TLS) have none
                raise

        api.request = request
        return client

    def _goes_to(self, host: str) -> None:
        self._address = host

    def _shown(self) -> str:
        return shown_uri(self._address) or "an unknown address"


def named(listing: Callable[..., Any], field: str, name: str, **scope: Any) -> list[Any]:
    """Everything with a name, oldest first.

    Args:
        listing: a `list_...` method of the official client.
        field: the field of its answer with the things, e.g. `runs`.
        name: the display name.
        scope: more arguments of `listing`.
    """
    query = json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})
    found = getattr(listing(filter=query, page_size=100, sort_by="created_at desc", **scope), field) or []
    return sorted(found, key=lambda thing: (thing.created_at, getattr(thing, f"{field.removesuffix('s')}_id")))


def _transient(error: Exception) -> bool:
    if isinstance(error, ApiException):
        return error.status in _TRANSIENT
    return isinstance(error, HTTPError) and not isinstance(error, LocationValueError)


def _reason(error: BaseException | None) -> str:
    if not isinstance(error, ApiException):
        return str(error)[:300]
    text = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
    try:
        said = json.loads(text)
        text = (
            said.get("error_details") or said.get("error_message") or said.get("message") or said.get("error") or text
        )
    except (ValueError, AttributeError):
        pass
    return f"{error.status} {error.reason}: {text.strip()[:500]}".rstrip(": ")
