"""Images behind URLs come from allowed hosts only, many at once.

Each is requested once in a process, and sent once for as long as it stays the same.
"""

import io
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from attrloop.components.catalogue.images import ImageReader
from attrloop.components.errors import InputError
from attrloop.components.run.config import DataConfig
from attrloop.components.storage import urls
from tests.http_server import DRIPS, QuietHandler, dripping, serving


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Site:
    """Serves files by path.

    Attributes:
        behave: (path, how often it was asked for) -> status and headers in place of the file; a status of 0 breaks off
            in the middle of the file.
        asked: (path, time) of the requests, in order of arrival.
        sent: paths of the files that were sent.
        validators: whether the answers have an ETag.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    behave: Callable[[str, int], tuple[int, dict[str, str]] | None] = lambda path, number: None
    asked: list[tuple[str, float]] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    validators: bool = True
    present: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def times(self, path: str) -> list[float]:
        return [when for name, when in self.asked if name == path]


@pytest.fixture
def site() -> Iterator[Site]:
    state = Site(files={f"/{k}.png": png(f"#{k:02}7799") for k in range(20)})

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with state.lock:
                state.asked.append((self.path, time.monotonic()))
                number = len(state.times(self.path))
                state.present += 1
                state.most_at_once = max(state.most_at_once, state.present)
            time.sleep(0.02)
            with state.lock:
                state.present -= 1
            self.answer(state.behave(self.path, number))

        def answer(self, instead: tuple[int, dict[str, str]] | None) -> None:
            body, tag = state.files.get(self.path, b""), f'"{hash(state.files.get(self.path))}"'
            status, headers = instead or (200 if body else 404, {"ETag": tag} if state.validators else {})
            if status == 200 and self.headers["If-None-Match"] == tag:
                status = 304
            body = body if status in (200, 0) else b""
            self.send_response(status or 200)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if status == 200:
                state.sent.append(self.path)
            if status == 0:
                self.close_connection = True
            with suppress(OSError):  # a client that did not wait
                self.wfile.write(body[: len(body) // 2] if status == 0 else body)

    with serving(Handler) as url:
        state.url = url
        yield state


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATTRLOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "inputs"


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forgets what this process has seen of hosts; tries again soon."""

    def forget() -> None:
        monkeypatch.setattr(urls, "_seen", {})
        monkeypatch.setattr(urls, "_failing", set())

    monkeypatch.setattr(urls, "_WAITS", (0.02, 0.02, 0.02))
    forget()
    return forget


def reader(**limits: Any) -> ImageReader:
    return ImageReader(
        "/nowhere", DataConfig(catalogue_schema="", listings="", **{"allowed_hosts": ("127.0.0.1",), **limits})
    )


def test_urls_are_fetched_in_parallel_and_each_once(site: Site) -> None:
    names = [f"{site.url}{path}" for path in site.files]
    for images in (reader(), reader()):
        images.fetch(names)
        assert [images.open(name).size for name in names] == [(40, 30)] * 20 and len(
            {images.digest(name) for name in names}
        ) == 20
    assert len(site.asked) == 20 and site.most_at_once > 3


def test_the_next_process_is_sent_only_what_has_changed(site: Site, new_process: Callable[[], None]) -> None:
    one, two = f"{site.url}/1.png", f"{site.url}/2.png"
    before = [reader().digest(name) for name in (one, two)]
    site.files["/2.png"] = png("white")
    new_process()
    images = reader()
    images.fetch([one, two])
    assert images.open(two).getpixel((0, 0)) == (255, 255, 255)
    assert images.digest(one) == before[0] and images.digest(two) != before[1], "features are kept by the digest"
    assert sorted(site.sent) == ["/1.png", "/2.png", "/2.png"]


def test_an_image_without_validators_is_fetched_again(site: Site, new_process: Callable[[], None]) -> None:
    site.validators = False
    reader().open(f"{site.url}/1.png")
    site.files["/1.png"] = png("white")
    new_process()
    assert reader().open(f"{site.url}/1.png").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    "status", [429, 500, 503, 0], ids=["too many requests", "a server error", "unavailable", "a connection that breaks"]
)
def test_a_passing_failure_is_tried_again(site: Site, cache: Path, status: int) -> None:
    site.behave = lambda path, number: (status, {}) if number < 3 else None
    reader().fetch([f"{site.url}/1.png"])
    assert reader().open(f"{site.url}/1.png").size == (40, 30) and len(site.asked) == 3
    assert len(list(cache.iterdir())) == 2, "the picture and what is known of it"


@pytest.mark.parametrize("told", ["seconds", "date"])
def test_a_server_says_how_long_to_wait(site: Site, told: str) -> None:
    asked = "1" if told == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    site.behave = lambda path, number: (503, {"Retry-After": asked}) if number == 1 else None
    reader().open(f"{site.url}/1.png")
    first, second = site.times("/1.png")
    assert second - first > 0.9
    site.behave = lambda path, number: (503, {"Retry-After": "3600"})
    with pytest.raises(InputError, match=r"HTTP status 503\. Try again later"):
        reader().open(f"{site.url}/2.png")
    assert len(site.times("/2.png")) == 1, "an hour is too long"


@pytest.mark.parametrize(
    ("status", "headers", "remedy"),
    [
        (301, {"Location": "/2.png"}, "Redirects are not followed: give the final address, which is on 127.0.0.1."),
        (302, {"Location": "https://u:hunter2@cdn.example/2.png?sig=hunter2"}, "which is on cdn.example."),
        (403, {}, "Check the URL."),
        (404, {}, "Check the URL."),
    ],
)
def test_a_lasting_failure_is_reported_and_not_tried_again(
    site: Site, status: int, headers: dict[str, str], remedy: str
) -> None:
    site.behave = lambda path, number: (status, headers)
    images = reader()
    images.fetch([f"{site.url}/1.png"])
    for _ in range(2):
        with pytest.raises(InputError, match=f"1.png: HTTP status {status}. .*{re.escape(remedy)}") as caught:
            images.open(f"{site.url}/1.png")
        assert "hunter2" not in str(caught.value)
    assert [path for path, _ in site.asked] == ["/1.png"], "nor is a redirect followed"


def test_a_host_that_is_down_is_tried_at_length_only_once(site: Site) -> None:
    site.behave = lambda path, number: (503, {})
    names = [f"{site.url}/{k}.png" for k in range(3)]
    for name in names:
        with pytest.raises(InputError, match=r"HTTP status 503\. Try again later"):
            reader().open(name)
    assert [len(site.times(f"/{k}.png")) for k in range(3)] == [4, 1, 1]
    site.behave = lambda path, number: (503, {}) if path == "/4.png" and number < 3 else None
    assert reader().open(f"{site.url}/3.png").size == reader().open(f"{site.url}/4.png").size, "it is up again"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://other.example/1.png", "host 'other.example' is not allowed. Add it to data.allowed_hosts"),
        ("http://shop.example/1.png", "scheme 'http' is not fetched"),
        ("ftp://127.0.0.1/1.png", "scheme 'ftp' is not fetched"),
        ("https://shop.example@other.example/1.png", "host 'other.example' is not allowed"),
        ("https://[shop.example/1.png", "is not allowed"),
        ("https://shop.example\\@other.example/1.png", "is not allowed"),
        ("https://shop.example:port/1.png", "not a URL"),
    ],
)
def test_other_hosts_and_schemes_are_refused(url: str, message: str) -> None:
    images = reader(allowed_hosts=("127.0.0.1", "shop.example"))
    images.fetch([url])
    problem = images.check(url, "listing mug-0")
    assert problem is not None and message in str(problem)


def test_a_host_of_the_machine_itself_must_be_allowed_too(site: Site) -> None:
    images = reader(allowed_hosts=())
    images.fetch([f"{site.url}/1.png"])
    with pytest.raises(InputError, match=r"host '127.0.0.1' is not allowed"):
        images.open(f"{site.url}/1.png")
    assert not site.asked


def test_what_is_too_large_is_not_kept(site: Site, cache: Path, new_process: Callable[[], None]) -> None:
    url = f"{site.url}/1.png"
    with pytest.raises(InputError, match=r"larger than 50 bytes. Shrink the image or raise data.max_image_bytes"):
        reader(max_image_bytes=50).open(url)
    assert not list(cache.iterdir())
    assert reader().open(url).size == (40, 30), "another bound is another question"
    new_process()
    with pytest.raises(InputError, match="larger than 50 bytes"):
        reader(max_image_bytes=50).open(url)


def test_what_another_process_removes_is_fetched_again(site: Site, cache: Path) -> None:
    images, url = reader(), f"{site.url}/1.png"
    images.fetch([url])
    before = images.data(url)
    for file in cache.iterdir():
        file.unlink()
    assert images.data(url) == before and len(site.sent) == 2
    for file in cache.iterdir():
        file.unlink()
    site.files["/1.png"] = png("white")
    for _ in range(2):
        with pytest.raises(InputError, match=r"has changed since it was first looked at. Start again"):
            images.data(url)


def test_what_is_forgotten_leaves_neither_disk_nor_memory(
    site: Site, cache: Path, new_process: Callable[[], None]
) -> None:
    reader().fetch([f"{site.url}/0.png"])
    new_process()
    images, names = reader(), [f"{site.url}/{k}.png" for k in range(3)]
    images.fetch([*names, f"{site.url}/none.png"])
    images.forget([*names, f"{site.url}/none.png"])
    assert not urls._seen and len(list(cache.iterdir())) == 2, "what another process had brought stays"
    assert images.open(names[1]).size == (40, 30)


@pytest.mark.parametrize("what", DRIPS)
@pytest.mark.parametrize("proxied", [False, True])
def test_an_image_that_drips_is_given_up_whatever_of_it_drips(what, proxied, monkeypatch):
    monkeypatch.setattr(urls, "_DEADLINE", 0.4)
    monkeypatch.setattr(urls, "_WAITS", ())
    urls._client.cache_clear()

    with serving(dripping(what)) as url:
        if proxied:
            monkeypatch.setenv("http_proxy", url)
            monkeypatch.setenv("no_proxy", "")
        started = time.monotonic()
        with pytest.raises(InputError, match="did not end in time"):
            reader(allowed_hosts=("localhost", "127.0.0.1")).data("http://localhost:9/1.png" if proxied else url)
        assert time.monotonic() - started < 1.5
    urls._client.cache_clear()


SECRETS = (
    "/1.png?X-Amz-Signature=hunter2",
    "/gone.png?token=hunter2#hunter2",
    "/2.png?sig=hunter2&x=http://hunter2@y/",
)


@pytest.mark.parametrize("path", SECRETS)
@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("broken", [True, False])
def test_what_grants_access_to_an_image_is_not_shown(site, caplog, path, allowed, broken):
    caplog.set_level("INFO")
    site.behave = lambda asked, number: (0, {}) if broken else (404, {})
    url = f"{site.url}{path}".replace("http://", "http://user:hunter2@", 1)
    with pytest.raises(InputError) as caught:
        reader(**({} if allowed else {"allowed_hosts": ()})).open(url)
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "hunter2" not in told and path.split("?")[0] in told


def test_what_grants_access_is_not_shown_when_the_file_is_no_image(site):
    site.files["/1.png?sig=hunter2"] = b"no image"
    with pytest.raises(InputError, match=r"/1.png\?\.\.\.: not an image") as caught:
        reader().open(f"{site.url}/1.png?sig=hunter2")
    assert "hunter2" not in str(caught.value)
