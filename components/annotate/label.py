"""Gets replies for listings, in order: from the cache, else from the API within the budget, several at a time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from attrloop.components.annotate.budget import Budget
from attrloop.components.annotate.cache import Cache, Paid
from attrloop.components.annotate.client import Annotator
from attrloop.components.annotate.request import Request, answer_model, cost_limit, make_request
from attrloop.components.catalogue.records import Listing
from attrloop.components.errors import InputError, Problem
from attrloop.components.run.workspace import Workspace

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Reply:
    """What came of a listing: `paid` with its answers or why it failed, or `bad` when an image of it cannot be read."""

    listing: Listing
    paid: Paid | None = None
    bad: Problem | None = None
    cached: bool = False


@dataclass
class Labeller:
    """Asks for listings.

    Args:
        wanted: listings to be labelled.

    Attributes:
        failed: unusable replies so far, those in the cache included.
        calls: requests made by this process.
    """

    ws: Workspace
    cache: Cache
    wanted: int
    failed: list[Paid] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = self.ws.config.annotate
        self.budget = Budget(config, self.cache.calls, self.cache.spent, self.cache.dearest)
        self._models = {name: answer_model(vertical) for name, vertical in self.ws.schema.verticals.items()}
        self._annotator: Annotator | None = None
        self._asked: dict[str, Future[Paid]] = {}
        self._broken = False

    @property
    def calls(self) -> int:
        return len(self._asked)

    @property
    def attempts(self) -> int:
        """HTTP requests made by this process, the SDK's retries included."""
        return self._annotator.attempts if self._annotator else 0

    @property
    def hopeless(self) -> bool:
        """More unusable replies than `annotate.max_failed` allows even if all others are usable."""
        return len(self.failed) > self.ws.config.annotate.max_failed * (self.wanted + len(self.failed)) + 1e-9

    def replies(self, listings: list[Listing], done: Callable[[], None]) -> list[Reply]:
        """Replies in the order of `listings`; fewer when the budget ends or too many are unusable.

        Raises:
            InputError: no key, or an endpoint that cannot be used; every reply received until then is in the cache.
        """
        with ThreadPoolExecutor(self.ws.config.annotate.concurrency) as pool, ThreadPoolExecutor(4) as openers:
            waiting: list[tuple[Reply, Future[Paid] | None]] = []
            for request, reply in ahead(openers, self._prepare, listings, 2 * self.ws.config.annotate.concurrency):
                if self.hopeless or self._broken:
                    break
                future = None
                if request is not None:
                    future = self._start(pool, request)
                    if future is None:
                        break
                    future.add_done_callback(lambda _: done())
                else:
                    self._note(reply.paid)
                    done()
                waiting.append((reply, future))
            for reply, future in waiting:
                if future is not None:
                    reply.paid = future.result()
        return [reply for reply, _ in waiting]

    def _prepare(self, listing: Listing) -> tuple[Request | None, Reply]:
        """The request with its pictures, or the reply that needs none."""
        config, images = self.ws.config.annotate, self.ws.images
        sent = listing.images[: config.max_images]
        try:
            vertical = self.ws.schema.verticals[listing.vertical]
            request = make_request(
                listing, vertical, self._models[listing.vertical], config, [images.digest(name) for name in sent]
            )
            paid = self.cache.get(request.key)
            if paid is not None:
                return None, Reply(listing, paid=paid, cached=True)
            pictures = tuple(images.jpeg(name, config.image_side) for name in sent)
            for name in listing.images[config.max_images :]:
                images.open(name)  # chains will be shown these too
        except InputError as error:
            return None, Reply(listing, bad=error.problems[0])
        return Request(request.listing, request.vertical, request.model, request.text, request.key, pictures), Reply(
            listing
        )

    def _start(self, pool: ThreadPoolExecutor, request: Request) -> Future[Paid] | None:
        """Sends a request once the budget has room; None when it has none left. Listings with the very same content share one request."""
        if request.key in self._asked:
            return self._asked[request.key]
        if self._annotator is None:
            self._annotator = Annotator(self.ws.config.annotate)
        reserved = self.budget.reserve(cost_limit(self.ws.config.annotate, request, len(request.pictures)))
        if reserved is None or self._broken or self.hopeless:  # both may have come to light while it waited for room
            return None
        first = not self._asked
        future = self._asked[request.key] = pool.submit(self._ask, self._annotator, request, reserved)
        if first:
            future.exception()  # alone: a bad key or address shows before more is sent, and its cost tells whether the estimate holds
        return future

    def _ask(self, annotator: Annotator, request: Request, reserved: float) -> Paid:
        cost = 0.0
        try:
            paid = annotator.ask(request)
            cost = paid.cost
            self.cache.add(paid)
            self._note(paid)
            return paid
        except BaseException:
            self._broken = True
            raise
        finally:
            self.budget.settle(reserved, cost)

    def _note(self, paid: Paid | None) -> None:
        if paid is not None and paid.answers is None:
            self.failed.append(paid)

    def close(self) -> None:
        if self._annotator is not None:
            self._annotator.close()


def ahead(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], width: int
) -> Iterator[Result]:
    """`map` with at most `width` results waiting, so that memory does not grow with the number of items."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > width:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
