"""Will a live move get there, how long does it take, how long does the guest stand still? Pure.

A *dirty rate* over a window counts each page once, so that the same guest shows 400 MB/s over one
second and 13 MB/s over thirty (measured). What pre-copy needs is the curve u(t): how many bytes a
guest has dirtied a time t after a clean bitmap. The recurrence of pre-copy is then

    t = v / B,   v' = u(t),   and the switch once v <= B * d

with v the bytes to send, B the link's bytes/s and d the pause that is allowed. A plateau v* is a v
that makes itself again. What u is below the shortest window nobody knows: it is bracketed, by a
straight line from nought and by the whole of the first window at once; where both agree the verdict
is certain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

DEVICES_S = 0.04
"""What the state of the devices adds to a pause; measured 2 to 40 ms (libvirt 9.0, QEMU 7.2)."""
SETTLED = 0.01
"""Rounds that differ by less than this share have reached their plateau."""
MOST_ROUNDS = 200


class Verdict(StrEnum):
    """Whether the move arrives within the pause that is allowed."""

    WILL = "will"
    WILL_NOT = "will_not"
    MAYBE = "maybe"


@dataclass(frozen=True, slots=True)
class DirtyCurve:
    """What a guest dirties: bytes of distinct pages by seconds since a clean bitmap.

    ``points`` are measured, by rising time; the empty curve is that of a guest that does nothing.
    Between two points it is a line; behind the last it goes on as it came, and never beyond
    ``memory_bytes``.
    """

    points: tuple[tuple[float, float], ...]
    memory_bytes: float

    @classmethod
    def measured(cls, windows: Iterable[tuple[float, float]], memory_bytes: float) -> DirtyCurve:
        """Of windows in seconds and their rates in bytes/s; noise never makes the curve fall."""
        points: list[tuple[float, float]] = []
        for seconds, rate in sorted(windows):
            if seconds > 0 and rate >= 0:
                highest = points[-1][1] if points else 0.0
                points.append((seconds, min(max(rate * seconds, highest), memory_bytes)))
        return cls(tuple(points), memory_bytes)

    def at(self, seconds: float, *, at_once: bool) -> float:
        """Bytes dirtied by then. ``at_once``: all of the first window's pages at its beginning."""
        if not self.points or seconds <= 0:
            return 0.0
        first, most = self.points[0]
        if seconds <= first:
            return most if at_once else most * seconds / first
        for (before, low), (after, high) in zip(self.points, self.points[1:], strict=False):
            if seconds <= after:
                return low + (high - low) * (seconds - before) / (after - before)
        return min(self._beyond(seconds), self.memory_bytes)

    def _beyond(self, seconds: float) -> float:
        (before, low), (after, high) = ((0.0, 0.0), *self.points)[-2:]
        slope = (high - low) / (after - before)
        return high + slope * (seconds - after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What one reading of the curve comes to.

    ``pause_s`` is the pause at the switch, or the shortest that would do; ``plateau_bytes`` what is
    left over and over when it does not get there. ``seconds`` is the whole of it.
    """

    arrives: bool
    seconds: float
    pause_s: float
    bytes: float
    plateau_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The verdict, and the numbers behind it (of the middle of both readings)."""

    verdict: Verdict
    seconds: float
    pause_s: float
    bytes: float
    needs_pause_s: float


def predict(
    curve: DirtyCurve,
    *,
    memory_bytes: float,
    link: float,
    pause_s: float,
    disk_bytes: float = 0.0,
    rate: float = 0.0,
) -> Prediction:
    """What a live move would come to.

    ``memory_bytes`` is what is not zero of the memory, ``link`` bytes/s between the hosts, ``rate``
    a limit on it (0 for none), ``disk_bytes`` what is copied before the memory. ``pause_s`` is the
    longest pause that is allowed.
    """
    speed = min(link, rate) if rate else link
    low, high = (
        _outlook(curve, memory_bytes, speed, pause_s, at_once=at_once) for at_once in (False, True)
    )
    before = disk_bytes / speed
    verdict = Verdict.MAYBE
    if low.arrives == high.arrives:
        verdict = Verdict.WILL if low.arrives else Verdict.WILL_NOT
    return Prediction(
        verdict=verdict,
        seconds=before + (low.seconds + high.seconds) / 2,
        pause_s=high.pause_s if verdict is Verdict.WILL else min(high.pause_s, pause_s),
        bytes=disk_bytes + (low.bytes + high.bytes) / 2,
        needs_pause_s=high.plateau_bytes / speed + DEVICES_S,
    )


def _outlook(
    curve: DirtyCurve, memory_bytes: float, speed: float, pause_s: float, *, at_once: bool
) -> Outlook:
    allowed = speed * max(0.0, pause_s - DEVICES_S)
    left, seconds, sent = memory_bytes, 0.0, 0.0
    least = left
    for _ in range(MOST_ROUNDS):
        if left <= allowed:
            pause = left / speed + DEVICES_S
            return Outlook(
                arrives=True,
                seconds=seconds + pause,
                pause_s=pause,
                bytes=sent + left,
                plateau_bytes=left,
            )
        takes = left / speed
        seconds, sent = seconds + takes, sent + left
        fresh = curve.at(takes, at_once=at_once)
        if fresh >= least * (1 - SETTLED):
            least = min(least, fresh)
            break
        left, least = fresh, fresh
    pause = least / speed + DEVICES_S
    return Outlook(
        arrives=False,
        seconds=seconds + pause,
        pause_s=pause,
        bytes=sent + least,
        plateau_bytes=least,
    )


def corrected(value: float, told: Sequence[tuple[float, float]]) -> float:
    """A prediction, put right by those before: the median of what was real to what was predicted.

    ``told``: predicted and real, of the same pair of hosts, the newest first; few of them count for
    little.
    """
    ratios = sorted(real / predicted for predicted, real in told[:9] if predicted > 0 and real > 0)
    if not ratios:
        return value
    middle = ratios[len(ratios) // 2]
    trust = len(ratios) / (len(ratios) + 1)
    return float(value * middle**trust)
