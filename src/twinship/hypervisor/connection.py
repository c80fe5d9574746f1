"""Connections to hosts: opened with a bound, kept alive, shared by all threads of a process.

A host that stops answering closes its connection after ``keepalive_interval_s x
(keepalive_count + 1)`` seconds; every call on it then fails, so that no call waits for ever.
"""

from __future__ import annotations

import threading
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
    """An open connection to one host."""

    def __init__(self, record: HostRecord, raw: Any) -> None:
        self.record = record
        self.raw = raw

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

    def close(self) -> None:
        """Closes it; what was marked to die with this connection dies."""
        try:
            self.raw.close()
        except libvirt.libvirtError:
            return  # the other side closed it first


class Connections:
    """One connection a host, opened on first use and again after it broke."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._open: dict[str, Connection] = {}

    def get(self, record: HostRecord) -> Connection:
        """The connection to a host.

        Raises :class:`HostUnreachable` when it does not open within ``connect_timeout_s``.
        """
        with self._lock:
            known = self._open.get(record.name)
        if known is not None:
            if known.record.uri == record.uri and known.alive():
                return known
            self.forget(record.name)
        fresh = Connection(record, _open_bounded(record, self._config))
        with self._lock:
            self._open[record.name] = fresh
        return fresh

    def forget(self, name: str) -> None:
        """Closes the connection to a host, if there is one."""
        with self._lock:
            known = self._open.pop(name, None)
        if known is not None:
            known.close()

    def close(self) -> None:
        """Closes all."""
        for name in list(self._open):
            self.forget(name)


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
