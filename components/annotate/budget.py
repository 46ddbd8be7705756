"""The budget in calls and money.

A request is sent only if its upper estimate fits, together with the estimates of all requests in flight.
"""

from threading import Condition
from typing import Literal

from attrloop.components.run.config import AnnotateConfig

Cap = Literal["", "annotate.max_calls", "annotate.max_cost"]


class Budget:
    """What may still be spent. Safe to use from several threads.

    Args:
        config: the caps, and how many requests may be in flight.
        calls: requests that were paid for before.
        spent: what they cost, in US dollars.
        dearest: what the dearest of them cost, in US dollars.

    Attributes:
        reached: the cap that stopped the run; "" until one does.
    """

    def __init__(self, config: AnnotateConfig, calls: int, spent: float, dearest: float) -> None:
        self._config = config
        self._calls, self._spent, self._dearest = calls, spent, dearest
        self._flying: list[float] = []
        self._changed = Condition()
        self.reached: Cap = ""

    def reserve(self, limit: float) -> float | None:
        """Waits until there is room for one more request.

        Args:
            limit: the request's upper estimate, in US dollars.

        Returns:
            What is reserved: the estimate, or the cost of the dearest request so far if that was more. None when the
            request can no longer fit.
        """
        with self._changed:
            while True:
                limit = max(limit, self._dearest)
                cap = self._in_the_way(limit)
                if not cap and len(self._flying) < self._config.concurrency:
                    self._flying.append(limit)
                    return limit
                if cap and not self._flying:
                    self.reached = cap
                    return None
                self._changed.wait()

    def _in_the_way(self, limit: float) -> Cap:
        if self._calls + len(self._flying) >= self._config.max_calls:
            return "annotate.max_calls"
        return "annotate.max_cost" if self._spent + sum(self._flying) + limit > self._config.max_cost else ""

    def settle(self, reserved: float, cost: float) -> None:
        """Replaces a reservation by what the request has cost, in US dollars."""
        with self._changed:
            self._flying.remove(reserved)
            self._calls += 1
            self._spent += cost
            self._dearest = max(self._dearest, cost)
            self._changed.notify_all()
