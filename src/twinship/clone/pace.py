"""How many copies are made at a time: as many as make the whole faster, by measuring; pure."""

from __future__ import annotations

LOOK_S = 2.0
"""A rate measured over less says little: QEMU reports twice a second."""
WORTH = 1.1
"""One more copy at a time has to bring a tenth more, or the storage is what binds them."""


class Pace:
    """Says how many may work, from what all of them have moved so far.

    It begins with one. While one more makes the sum of all faster, one more is tried; the first
    that does not is taken back, and the number stays. What moves nothing is not held back.
    """

    def __init__(self, most: int, *, copies: bool) -> None:
        """``copies``: bytes are moved; else all ``most`` may work at once."""
        self._most = most
        self.at_once = 1 if copies else most
        self._settled = not copies
        self._rates: dict[int, float] = {}
        self._since: tuple[float, int] | None = None

    def saw(self, now: float, moved_bytes: int, working: int) -> None:
        """What all have moved until now (monotonic seconds), with so many at work."""
        if self._settled or working < self.at_once:
            self._since = None  # a rate with fewer at work is not this number's
            return
        if self._since is None or moved_bytes < self._since[1]:
            self._since = (now, moved_bytes)
            return
        seconds = now - self._since[0]
        if seconds < LOOK_S:
            return
        self._decide((moved_bytes - self._since[1]) / seconds)
        self._since = None

    def _decide(self, rate: float) -> None:
        self._rates[self.at_once] = rate
        before = self._rates.get(self.at_once - 1, 0.0)
        if rate < before * WORTH:
            self.at_once -= 1
            self._settled = True
        elif self.at_once == self._most:
            self._settled = True
        else:
            self.at_once += 1
