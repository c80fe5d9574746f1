"""Connections to hosts: opened with a bound, kept alive, each used by one thread at a time.

A host that stops answering closes its connection after ``keepalive_interval_s x
(keepalive_count + 1)`` seconds; the call under way on it then fails, so that no call waits for
ever. Of two calls under way only one would: libvirt 9.0's client wakes the thread that reads the
socket, which hands over to the next one that waits, and that one is never told (measured: a lookup
beside a migration on a link that was cut hung until the link was back).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import libvirt

from twinship.config import Config
from twinship.hypervisor.translate import doing, translated
from twinship.model.errors import HostUnreachable, UsageError
from twinship.model.host import HostRecord

_loop_started = threading.Lock()
_loop: threading.Thread | None = None


class Connection:
    """An open connection to one host, for the thread that got it."""

    def __init__(self, record: HostRecord, raw: Any, pool: Connections) -> None:
        self.record = record
        self.raw = raw
        self.user: threading.Thread | None = threading.current_thread()
        self._pool = pool

    @property
    def name(self) -> str:
        """The host's name with us."""
        return self.record.name

    def alive(self) -> bool:
        """Whether the connection is still open, as far as keepalive knows."""
        try:
            return bool(self.raw.isAlive())
        except libvirt.libvirtError:
            return False

    def mine(self) -> Connection:
        """The connection to the same host for the calling thread. Raises as ``Connections.get``."""
        return self._pool.get(self.record)

    @contextmanager
    def another(self) -> Iterator[Connection]:
        """A new connection to the same host, which nobody else is given or closes.

        Raises :class:`HostUnreachable` as ``Connections.get``.
        """
        fresh = self._pool.open(self.record)
        try:
            yield fresh
        finally:
            fresh.close()

    def close(self) -> None:
        """Closes it; what was marked to die with this connection dies."""
        try:
            self.raw.close()
        except libvirt.libvirtError:
            return  # the other side closed it first


class Connections:
    """Opened on first use and again after they broke; one that no thread uses is used again."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._open: list[Connection] = []

    def get(self, record: HostRecord) -> Connection:
        """The calling thread's connection to a host, its own until it ends or releases it.

        Raises :class:`HostUnreachable` when it does not open within ``connect_timeout_s``.
        """
        me = threading.current_thread()
        with self._lock:
            broken = [known for known in self._open if not known.alive()]
            self._open = [known for known in self._open if known.alive()]
            fit = [known for known in self._open if known.record == record]
            found = next((known for known in fit if known.user is me), None)
            found = found or next((known for known in fit if _unused(known)), None)
            if found is not None:
                found.user = me
        for known in broken:
            known.close()
        if found is not None:
            return found
        fresh = self.open(record)
        with self._lock:
            self._open.append(fresh)
        return fresh

    def open(self, record: HostRecord) -> Connection:
        """A connection that is the caller's to close."""
        return Connection(record, _open_bounded(record, self._config), self)

    def release(self) -> None:
        """The calling thread needs its connections no more; others may have them."""
        with self._lock:
            for known in self._open:
                if known.user is threading.current_thread():
                    known.user = None

    def forget(self, name: str) -> None:
        """Closes the connections to a host."""
        with self._lock:
            gone = [known for known in self._open if known.record.name == name]
            self._open = [known for known in self._open if known.record.name != name]
        for known in gone:
            known.close()

    def close(self) -> None:
        """Closes all."""
        for name in {known.record.name for known in self._open}:
            self.forget(name)


def _unused(connection: Connection) -> bool:
    return connection.user is None or not connection.user.is_alive()


def _open_bounded(record: HostRecord, config: Config) -> Any:
    """Opens a connection in a thread of its own: libvirt's connect has no timeout.

    A thread whose connect never returns is left behind as a daemon thread; it holds a socket and
    nothing else, and closes what it gets too late.
    """
    _ensure_event_loop()
    box: dict[str, Any] = {}
    done = threading.Event()
    lock = threading.Lock()

    def connect() -> None:
        try:
            raw = libvirt.openAuth(_quiet(record.uri), [[], lambda *_: -1, None], 0)
            raw.setKeepAlive(config.keepalive_interval_s, config.keepalive_count)
        except libvirt.libvirtError as error:
            box["error"] = error
        else:
            with lock:
                box["raw"] = raw
                late = box.get("late", False)
            if late:
                raw.close()
        done.set()

    threading.Thread(target=connect, name=f"connect-{record.name}", daemon=True).start()
    if not done.wait(config.connect_timeout_s):
        with lock:
            box["late"] = True
            arrived = "raw" in box
        if not arrived:
            raise HostUnreachable(
                f"cannot connect to host {record.name}",
                cause=f"no answer from {record.uri} within {config.connect_timeout_s:g} s",
                hint=f"twinship host check {record.name}",
            )
    if "error" in box:
        error = translated(box["error"], f"connect to host {record.name}")
        if not isinstance(error, HostUnreachable):
            error = HostUnreachable(error.message, cause=error.cause, hint=error.hint)
        raise error
    return box["raw"]


def _quiet(uri: str) -> str:
    """The URI, told never to ask on a terminal (ssh would)."""
    parts = urlsplit(uri)
    if not parts.scheme:
        raise UsageError(
            f"{uri!r} is no libvirt URI",
            code="BAD_URI",
            hint="for example qemu+ssh://root@kvm01/system, or qemu:///system for this machine",
        )
    if "ssh" not in parts.scheme:
        return uri
    query = dict(parse_qsl(parts.query))
    query.setdefault("no_tty", "1")
    return urlunsplit(parts._replace(query=urlencode(query)))


def _ensure_event_loop() -> None:
    """Starts the one thread that runs libvirt's events; keepalive lives on it."""
    global _loop  # noqa: PLW0603 - libvirt has one event loop a process, too
    with _loop_started:
        if _loop is not None:
            return
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        libvirt.virEventRegisterDefaultImpl()
        _loop = threading.Thread(target=_run_events, name="libvirt-events", daemon=True)
        _loop.start()


def _run_events() -> None:
    while True:
        with doing("run libvirt's event loop"):
            libvirt.virEventRunDefaultImpl()
