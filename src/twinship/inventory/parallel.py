"""Asking many hosts at once, none of which may hold up the others."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from twinship.clock import Clock
from twinship.model.errors import HostUnreachable, TwinshipError
from twinship.model.host import HostRecord

T = TypeVar("T")


def ask_all(
    records: Sequence[HostRecord],
    ask: Callable[[HostRecord], T],
    *,
    timeout_s: float,
    clock: Clock,
) -> dict[str, T | TwinshipError]:
    """What each host answers, by name; an error for one that fails or is too slow.

    One thread a host. A thread whose host never answers is left behind as a daemon thread: its
    connection's keepalive ends it.
    """
    answers: queue.SimpleQueue[tuple[str, T | TwinshipError]] = queue.SimpleQueue()

    def run(record: HostRecord) -> None:
        try:
            answers.put((record.name, ask(record)))
        except TwinshipError as error:
            answers.put((record.name, error))
        except Exception as error:  # noqa: BLE001 - one host's fault must not hide the others
            broken = TwinshipError("an internal error", code="INTERNAL", cause=repr(error))
            answers.put((record.name, broken))

    for record in records:
        threading.Thread(target=run, args=(record,), name=f"ask-{record.name}", daemon=True).start()
    found: dict[str, T | TwinshipError] = {}
    deadline = clock.monotonic() + timeout_s
    while len(found) < len(records):
        left = deadline - clock.monotonic()
        if left <= 0:
            break
        try:
            name, answer = answers.get(timeout=left)
        except queue.Empty:
            break
        found[name] = answer
    for record in records:
        if record.name not in found:
            found[record.name] = HostUnreachable(
                f"host {record.name} does not answer",
                cause=f"no answer within {timeout_s:g} s",
                hint=f"twinship host check {record.name}",
            )
    return found
