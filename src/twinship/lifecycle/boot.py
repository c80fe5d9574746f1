"""Waiting until a guest is up: its agent answers, it has an address, or it asks for a login."""

from __future__ import annotations

import re
import threading
from typing import Any

from twinship.clock import Clock
from twinship.hypervisor import agent, console
from twinship.hypervisor.connection import Connection
from twinship.model.errors import HypervisorError, StillRunning

POLL_S = 0.2
LOGIN = re.compile(rb"login: ?$|twinship guest .* up", re.MULTILINE)
KEPT_BYTES = 4096


class _ConsoleWatch:
    """Reads a console in a thread of its own until it shows a login prompt or is closed."""

    def __init__(self, connection: Connection, uuid: str) -> None:
        self.prompted = threading.Event()
        self._stream: Any = None
        try:
            self._stream = console.open_console(connection, uuid)
        except HypervisorError:
            return  # no console, or somebody else reads it: the other signs remain
        self._thread = threading.Thread(target=self._read, name="console", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        seen = b""
        while data := console.read(self._stream):
            seen = (seen + data)[-KEPT_BYTES:]
            if LOGIN.search(seen):
                self.prompted.set()
                return

    def close(self) -> None:
        """Gives the console back."""
        if self._stream is not None:
            console.close(self._stream)
            self._thread.join(1.0)


def wait_boot(connection: Connection, uuid: str, clock: Clock, *, timeout_s: float) -> str:
    """Waits for the first sign that the guest is up, and says which it was.

    Raises :class:`StillRunning` after ``timeout_s``; the VM runs on.
    """
    deadline = clock.monotonic() + timeout_s
    watch = _ConsoleWatch(connection, uuid)
    try:
        while clock.monotonic() < deadline:
            if agent.answers(connection, uuid):
                return "its agent answers"
            if watch.prompted.is_set():
                return "its console asks for a login"
            if found := console.addresses(connection, uuid):
                return f"it has the address {found[0]}"
            clock.wait(POLL_S)
    finally:
        watch.close()
    raise StillRunning(
        f"the guest has not come up within {timeout_s:g} s",
        code="BOOT_TIMEOUT",
        cause="no agent, no address, no login prompt",
        hint="look at its console: twinship vm console",
    )
