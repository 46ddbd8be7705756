"""Gets answers for listings, in order: from the cache, else from the annotator within the budget, several at a time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pydantic import BaseModel

from attrloop.components.annotate.annotator import Annotator, Answer, Unusable, excerpt
from attrloop.components.annotate.annotators import make_annotator
from attrloop.components.annotate.budget import Budget, Reservation
from attrloop.components.annotate.cache import Answered, Cache, Paid
from attrloop.components.annotate.charge import cost_limit
from attrloop.components.annotate.request import Request, answer_model, make_request, some_of
from attrloop.components.annotate.turns import Ask
from attrloop.components.catalogue.records import Listing
from attrloop.components.catalogue.schema import Vertical
from attrloop.components.errors import InputError, Problem
from attrloop.components.run.workspace import Workspace

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Reply:
    """What came of a listing.

    Attributes:
        ask: the listing, and what it was asked for.
        answers: by attribute; one that lacks had an unusable reply, unless the budget ended before.
        bad: set when one of the images cannot be read.
        cached: nothing was paid for it now.
        ended: the budget ended before all of it could be asked.
    """

    ask: Ask
    answers: dict[str, Answered] = field(default_factory=dict)
    bad: Problem | None = None
    cached: bool = False
    ended: bool = False


class Labeller:
    """Asks the annotator about listings.

    Args:
        ws: the run's workspace.
        cache: the answers so far.
        wanted: how many listings are to be labelled.

    Attributes:
        failed: unusable replies so far, those in the cache included.
        budget: what may still be spent.
    """

    def __init__(self, ws: Workspace, cache: Cache, wanted: int) -> None:
        self.ws, self.cache, self._wanted = ws, cache, wanted
        self.failed: list[Paid] = []
        self.budget = Budget(ws.config.annotate, cache.calls, cache.spent, cache.dearest)
        self._forms: dict[tuple[str, ...], tuple[Vertical, type[BaseModel]]] = {}
        self._earlier = cache.calls > 0  # there are replies of an earlier process
        self._annotator: Annotator | None = None
        self._asked: dict[str, Future[Paid]] = {}
        self._broken = False

    @property
    def calls(self) -> int:
        """Requests made by this process."""
        return len(self._asked)

    @property
    def attempts(self) -> int:
        """Requests made by this process, the annotator's own retries included."""
        return self._annotator.attempts if self._annotator else 0

    @property
    def hopeless(self) -> bool:
        """Whether there are more unusable replies than `annotate.max_failed` allows, even if all others are usable."""
        return len(self.failed) > self.ws.config.annotate.max_failed * (self._wanted + len(self.failed)) + 1e-9

    def replies(self, asks: list[Ask], done: Callable[[], None]) -> list[Reply]:
        """Gets replies, in the order of `asks`; fewer when too many are unusable.

        When the budget ends, what was paid for by an earlier process is still found.

        Args:
            asks: what to ask.
            done: called for each of them when its reply is there.

        Raises:
            InputError: the annotator cannot be used. Every reply until then is in the cache.
        """
        with ThreadPoolExecutor(self.ws.config.annotate.concurrency) as pool, ThreadPoolExecutor(4) as openers:
            waiting: list[tuple[Reply, Future[Paid] | None]] = []
            for request, reply in ahead(openers, self._prepare, asks, 2 * self.ws.config.annotate.concurrency):
                if self.hopeless or self._broken or (self.budget.reached and not self._earlier):
                    break
                future = None
                if isinstance(request, Request):
                    future = self._start(pool, request)
                    reply.ended = future is None
                else:
                    self._note(request)
                if future is not None:
                    future.add_done_callback(lambda _: done())
                else:
                    done()
                waiting.append((reply, future))
            for reply, future in waiting:
                if future is not None:
                    reply.answers |= future.result().by_attribute
        return [reply for reply, _ in waiting]

    def _prepare(self, ask: Ask) -> tuple[Request | Paid | None, Reply]:
        """The reply so far, and the request with its pictures for what lacks, or the unusable reply that it had before.

        Only what lacks is asked: an answer that was paid for in any request about the listing is not paid for again.
        """
        config, images, listing = self.ws.config.annotate, self.ws.images, ask.listing
        sent, every = listing.images[: config.max_images], self.ws.schema.verticals[listing.vertical].attributes
        try:
            digests = [images.digest(name) for name in sent]
            whole = self._request(listing, tuple(every), digests)
            known = self.cache.answers(whole.key).items()  # an earlier version took 'none; dotted' for an answer
            reply = Reply(ask, {name: was for name, was in known if every[name].canonical(was.value) == was.value})
            lacking = [name for name in ask.attributes if name not in reply.answers]
            request = self._request(listing, tuple(lacking), digests) if lacking else None
            failed = self.cache.get(request.key, request.max_tokens) if request else None
            if request is None or failed is not None:
                reply.cached = True
                return failed, reply
            if self.budget.reached:
                return request, reply
            pictures = tuple(images.jpeg(name, config.image_side) for name in sent)
            for name in listing.images[config.max_images :]:
                images.open(name)  # not sent to the annotator, but chains will see them
        except InputError as error:
            return None, Reply(ask, bad=error.problems[0])
        return replace(request, pictures=pictures, whole="" if request.key == whole.key else whole.key), reply

    def _request(self, listing: Listing, attributes: tuple[str, ...], digests: list[str]) -> Request:
        """The request about some attributes of a listing, without its pictures."""
        form = self._forms.get((listing.vertical, *attributes))
        if form is None:
            part = some_of(self.ws.schema.verticals[listing.vertical], attributes)
            form = self._forms[listing.vertical, *attributes] = part, answer_model(part)
        return make_request(listing, *form, self.ws.config.annotate, digests)

    def _start(self, pool: ThreadPoolExecutor, request: Request) -> Future[Paid] | None:
        """Sends a request when the budget has room, or returns None when it has none left.

        Listings with the very same content share one request.
        """
        if request.key in self._asked:
            return self._asked[request.key]
        reserved = self.budget.reserve(cost_limit(self.ws.config.annotate, request, len(request.pictures)))
        if reserved is None or self._broken or self.hopeless:  # the last two may have changed during the wait for room
            return None
        if self._annotator is None:  # not before it is needed: without a budget there need be no key
            self._annotator = make_annotator(self.ws.config.annotate)
        first = not self._asked
        future = self._asked[request.key] = pool.submit(self._ask, self._annotator, request, reserved)
        if first:  # on its own: it shows a bad key or address before more is sent, and whether the cost estimate holds
            future.exception()
        return future

    def _ask(self, annotator: Annotator, request: Request, reserved: Reservation) -> Paid:
        cost = 0.0
        try:
            answer = annotator.ask(request, lambda: self.budget.again(reserved))
            cost = answer.cost
            paid = _paid(request, answer)
            self.cache.add(paid)
            self._note(paid)
            return paid
        except Unusable as error:
            self._broken, cost = True, error.cost
            if cost:
                lost = Paid(key=request.key, listing=request.listing.id, failed="no reply came", cost=cost)
                self.cache.add(lost)
                self.cache.forget(lost)
            raise
        except BaseException:
            self._broken = True
            raise
        finally:
            self.budget.settle(reserved, cost)

    def _note(self, paid: Paid | None) -> None:
        if paid is not None and paid.answers is None:
            self.failed.append(paid)

    def close(self) -> None:
        """Closes the annotator."""
        if self._annotator is not None:
            self._annotator.close()


def _paid(request: Request, answer: Answer) -> Paid:
    """The answer as the cache keeps it: checked against the closed lists."""
    answers, why = None, answer.failed
    if not why:
        try:
            answers = request.read(answer.text)
        except ValueError as error:
            why = str(error)
    return Paid(
        key=request.key,
        whole=request.whole,
        listing=request.listing.id,
        answers=answers,
        failed=why and f"{why}: {excerpt(answer.text)}",
        limit=request.max_tokens,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        cost=answer.cost,
    )


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
