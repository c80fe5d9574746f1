"""The way to a host's libvirtd, seen through: a fault at a chosen call of a migration.

libvirt's protocol is a row of frames on a socket: length, program, version, procedure, type (0 is a
call, 1 its answer), serial, status; all 32 bits, the highest first. This relay reads the procedure
of each frame, so that a test can hold one back, cut the line, or make any other trouble exactly
before a call arrives, or after it was done and before the answer gets back.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

_PROGRAM = 0x20008086
_HEAD = struct.Struct(">IIIIII")


class Call(IntEnum):
    """The five steps of a migration that its client drives (libvirt's remote_protocol.x)."""

    BEGIN = 302
    PREPARE = 303
    PERFORM = 305
    FINISH = 306
    CONFIRM = 307


class When(IntEnum):
    """Which frame: the call on its way to the host, or its answer on the way back."""

    BEFORE = 0
    AFTER = 1


@dataclass
class Wire:
    """A relay before a host's socket; ``trouble`` is done once, at the moment, by its thread.

    ``seen``: every step of a migration that went through. While ``dark``, nothing goes through in
    either direction, as over a cut cable; :meth:`cut` hangs up on everybody.
    """

    listen: Path
    connect: Path
    moment: tuple[Call, When] | None = None
    trouble: Callable[[Wire], None] = lambda wire: None
    seen: list[tuple[Call, When]] = field(default_factory=list)
    happened: threading.Event = field(default_factory=threading.Event)
    _light: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _sockets: list[socket.socket] = field(default_factory=list)
    _closed: bool = False
    _broken: bool = False

    @property
    def uri(self) -> str:
        """What leads through this relay."""
        return f"qemu+unix:///system?socket={quote(str(self.listen))}"

    def __enter__(self) -> Wire:
        self._light.set()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self.listen))
        self._server.listen(64)
        self._thread = threading.Thread(target=self._accept, name="wire", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        self._light.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()
        self._thread.join(10)
        self.listen.unlink()

    def dark(self) -> None:
        """From now on a black hole."""
        self._light.clear()

    def light(self) -> None:
        """Everything that was held back goes on, and new connections are served."""
        self._broken = False
        self._light.set()

    def cut(self) -> None:
        """Hangs up on all connections of now; the frame of the moment is lost with them."""
        with self._lock:
            for end in self._sockets:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            self._sockets.clear()

    def break_off(self) -> None:
        """Hangs up, and on everybody who comes, until :meth:`light`."""
        self._broken = True
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            try:
                if self._broken:
                    raise ConnectionRefusedError
                far.connect(str(self.connect))
            except OSError:
                near.close()
                far.close()
                continue
            with self._lock:
                self._sockets += [near, far]
            for ends, when in (((near, far), When.BEFORE), ((far, near), When.AFTER)):
                threading.Thread(target=self._carry, args=(*ends, when), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, when: When) -> None:
        try:
            while frame := self._frame(source):
                _, program, _, procedure, kind, _ = _HEAD.unpack_from(frame)
                if program == _PROGRAM and kind == when and procedure in set(Call):
                    step = (Call(procedure), when)
                    self.seen.append(step)
                    if step == self.moment and not self.happened.is_set():
                        self.happened.set()
                        self.trouble(self)
                self._light.wait()
                sink.sendall(frame)
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _frame(source: socket.socket) -> bytes:
        head = _exactly(source, 4)
        if len(head) < 4:
            return b""
        return head + _exactly(source, struct.unpack(">I", head)[0] - 4)


def _exactly(source: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = source.recv(length - len(parts))
        if not part:
            return b""
        parts += part
    return bytes(parts)
