"""The budget in calls and money.

A request is sent only if its upper estimate fits, together with the estimates of all requests in flight.
"""

from dataclasses import dataclass
from threading import Condition
from typing import Literal

from attrloop.components.run.config import AnnotateConfig

Cap = Literal["", "annotate.max_calls", "annotate.max_cost"]


@dataclass(eq=False)
class Reservation:
    """Room in the budget for one request.

    Attributes:
        limit: upper estimate of one try, in US dollars.
        tries: tries that may have been charged for, the present one included.
    """

    limit: float
    tries: int = 1


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
        self._flying: list[Reservation] = []
        self._changed = Condition()
        self.reached: Cap = ""

    def reserve(self, limit: float) -> Reservation | None:
        """Waits until there is room for one more request.

        Args:
            limit: the request's upper estimate, in US dollars.

        Returns:
            Room for the estimate, or for the cost of the dearest request so far if that was more. None when the request
            can no longer fit.
        """
        with self._changed:
            while True:
                limit = max(limit, self._dearest)
                cap = self._in_the_way(limit)
                if not cap and len(self._flying) < self._config.concurrency:
                    self._flying.append(reserved := Reservation(limit))
                    return reserved
                if cap and not self._flying:
                    self.reached = cap
                    return None
                self._changed.wait()

    def _in_the_way(self, limit: float) -> Cap:
        if self._calls + len(self._flying) >= self._config.max_calls:
            return "annotate.max_calls"
        flying = sum(reserved.tries * max(reserved.limit, self._dearest) for reserved in self._flying)
        return "annotate.max_cost" if self._spent + flying + limit > self._config.max_cost else ""

    def again(self, reserved: Reservation) -> bool:
        """Makes room for one more try of a request whose reply was lost; False when there is none."""
        with self._changed:
            room = self._in_the_way(max(reserved.limit, self._dearest)) != "annotate.max_cost"
            reserved.tries += room
            return room

    def settle(self, reserved: Reservation, cost: float) -> None:
        """Replaces a reservation by what all tries of the request have cost, in US dollars."""
        with self._changed:
            self._flying.remove(reserved)
            self._calls += 1
            self._spent += cost
            self._dearest = max(self._dearest, cost / reserved.tries)
            self._changed.notify_all()
