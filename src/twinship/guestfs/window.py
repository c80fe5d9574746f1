"""Volumes of a host shown to QEMU here, over nothing but that host's libvirt connection.

QEMU's storage daemon reads a disk's file as an NBD export on a Unix socket; what it asks for is
read from the host by volume streams, and what it writes is sent there. Only what is needed
travels: sealing a guest reads tens of MiB of a disk. The host needs nothing of ours.

Source: the NBD protocol (fixed newstyle, simple replies), NetworkBlockDevice/nbd doc/proto.md.
"""

from __future__ import annotations

import asyncio
import errno
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from twinship.guestfs.files import GuestFilesError
from twinship.guestfs.image import Layer
from twinship.guestfs.place import working_directory
from twinship.hypervisor import volumes
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.content import OpenVolume
from twinship.model.errors import TwinshipError
from twinship.model.image import HEADER_BYTES

_BLOCK_BYTES = 256 * 1024
"""What is read at a time: one packet of libvirt's streams."""
_KEPT_BLOCKS = 512
_ROOM_BYTES = 16 * 1024**3
"""How far a qcow2 file may grow: to QEMU it is a device that much larger."""
_START_S = 30.0

_MAGIC = b"NBDMAGIC"
_OPTION_MAGIC = b"IHAVEOPT"
_REPLY_MAGIC = 0x3E889045565A9
_REQUEST = struct.Struct(">IHHQQI")
_REQUEST_MAGIC, _SIMPLE_REPLY_MAGIC = 0x25609513, 0x67446698
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_EXPORT_NAME, _ABORT, _INFO, _GO = 1, 2, 6, 7
_ACK, _INFO_REPLY, _UNSUPPORTED, _UNKNOWN = 1, 3, 0x80000001, 0x80000006
_READ, _WRITE, _DISCONNECT, _FLUSH = 0, 1, 2, 3
_HAS_FLAGS, _READ_ONLY, _SEND_FLUSH = 1, 2, 4
_MOST_REQUEST_BYTES = 64 * 1024 * 1024


class _Export:
    """One volume, with the blocks read of it last."""

    def __init__(self, volume: OpenVolume, length: int, size: int, *, writable: bool) -> None:
        self.size = size
        self.writable = writable
        self._volume = volume
        self._length = length
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the device; beyond the file's end there are zeroes."""
        first, last = offset // _BLOCK_BYTES, (offset + length - 1) // _BLOCK_BYTES
        data = b"".join(self._block(number) for number in range(first, last + 1))
        at = offset - first * _BLOCK_BYTES
        return data[at : at + length]

    def write(self, offset: int, data: bytes) -> None:
        """Writes through."""
        self._volume.write(offset, data)
        self._length = max(self._length, offset + len(data))
        for number in range(offset // _BLOCK_BYTES, (offset + len(data) - 1) // _BLOCK_BYTES + 1):
            self._blocks.pop(number, None)

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        at = number * _BLOCK_BYTES
        wanted = max(0, min(_BLOCK_BYTES, self._length - at))
        data = self._volume.read(at, wanted) if wanted else b""
        block = data.ljust(_BLOCK_BYTES, b"\0")
        self._blocks[number] = block
        if len(self._blocks) > _KEPT_BLOCKS:
            self._blocks.popitem(last=False)
        return block


class Window:
    """Shows volumes of one host. Made by :func:`window`."""

    def __init__(self, connect: Callable[[], Connection], place: Path) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._socket = place / "nbd"
        self._exports: dict[bytes, _Export] = {}
        self._writable: set[str] = set()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self.error = ""

    def layer(self, connection: Connection, path: str, kind: str, *, writable: bool) -> Layer:
        """The volume as a layer of an image. ``connection`` is the calling thread's own."""
        found = volumes.find(connection, path)
        if found is None:
            raise GuestFilesError(
                f"{path} is not there on {connection.name}", code="VOLUME_NOT_FOUND"
            )
        head = volumes.read(connection, path, 0, min(HEADER_BYTES, found.length_bytes))
        if writable:
            with self._lock:
                self._writable.add(path)
        return Layer(
            path=Path(path),
            format=kind,
            socket=self._socket,
            head=head,
            length_bytes=found.length_bytes,
        )

    async def serve(self, ready: threading.Event) -> None:
        """Serves until :meth:`close`; then whoever is still connected is cut off."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_unix_server(self._client, path=self._socket)
        async with server:
            ready.set()
            await self._stop.wait()

    def close(self) -> None:
        """Ends :meth:`serve`; may be called by any thread."""
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(_MAGIC + _OPTION_MAGIC + struct.pack(">H", _FIXED_NEWSTYLE | _NO_ZEROES))
            (flags,) = struct.unpack(">I", await reader.readexactly(4))
            export = await self._negotiate(reader, writer, plain=bool(flags & _NO_ZEROES))
            if export is not None:
                await self._transmit(reader, writer, export)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return  # the other end has gone, or this one goes
        finally:
            writer.close()

    async def _negotiate(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, plain: bool
    ) -> _Export | None:
        while True:
            head = await reader.readexactly(16)
            option, length = struct.unpack(">II", head[8:])
            if head[:8] != _OPTION_MAGIC or length > 8192:
                return None
            data = await reader.readexactly(length)
            if option == _EXPORT_NAME:
                export = self._export(data)
                if export is not None:
                    zeroes = b"" if plain else bytes(124)
                    writer.write(struct.pack(">QH", export.size, _flags(export)) + zeroes)
                return export
            if option == _ABORT:
                _reply(writer, option, _ACK)
                return None
            if option in (_GO, _INFO) and length >= 6:
                (name_length,) = struct.unpack_from(">I", data)
                export = self._export(data[4 : 4 + name_length])
                if export is None:
                    _reply(writer, option, _UNKNOWN, self.error.encode())
                    continue
                told = struct.pack(">HQH", 0, export.size, _flags(export))
                _reply(writer, option, _INFO_REPLY, told)
                _reply(writer, option, _ACK)
                if option == _GO:
                    return export
            else:
                _reply(writer, option, _UNSUPPORTED)

    async def _transmit(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, export: _Export
    ) -> None:
        while True:
            head = await reader.readexactly(_REQUEST.size)
            magic, _, kind, cookie, offset, length = _REQUEST.unpack(head)
            if magic != _REQUEST_MAGIC or kind == _DISCONNECT or length > _MOST_REQUEST_BYTES:
                return
            data = await reader.readexactly(length) if kind == _WRITE else b""
            code, answer = self._served(export, kind, offset, length, data)
            writer.write(struct.pack(">IIQ", _SIMPLE_REPLY_MAGIC, code, cookie) + answer)
            await writer.drain()

    def _served(
        self, export: _Export, kind: int, offset: int, length: int, data: bytes
    ) -> tuple[int, bytes]:
        if offset + length > export.size:
            return errno.EINVAL, b""
        try:
            if kind == _READ and length:
                return 0, export.read(offset, length)
            if kind == _WRITE and export.writable:
                export.write(offset, data)
                return 0, b""
        except TwinshipError as error:
            self.error = self.error or error.cause or error.message
            return errno.EIO, b""
        return (0, b"") if kind == _FLUSH else (errno.EPERM, b"")

    def _export(self, name: bytes) -> _Export | None:
        """The volume of that path, opened when it is first asked for, by this thread."""
        path = os.fsdecode(name)
        if name in self._exports:
            return self._exports[name]
        try:
            if self._connection is None:
                self._connection = self._connect()
            found = volumes.find(self._connection, path)
            if found is None:
                self.error = f"{path} is not there"
                return None
            volume = OpenVolume(self._connection, path)
        except TwinshipError as error:
            self.error = self.error or error.cause or error.message
            return None
        with self._lock:
            writable = path in self._writable
        room = _ROOM_BYTES if writable and found.format == "qcow2" else 0
        length = found.length_bytes
        size = (length + room) // 512 * 512 if room else length
        self._exports[name] = _Export(volume, length, size, writable=writable)
        return self._exports[name]


@contextmanager
def window(connect: Callable[[], Connection]) -> Iterator[Window]:
    """Shows a host's volumes while the block runs.

    ``connect`` is asked for a connection by a thread of the window's own.
    """
    with working_directory() as place:
        shown = Window(connect, place)
        ready = threading.Event()
        thread = threading.Thread(
            target=lambda: asyncio.run(shown.serve(ready)), name="twinship-window", daemon=True
        )
        thread.start()
        if not ready.wait(_START_S):
            raise GuestFilesError("the window onto the host's disks did not open")
        try:
            yield shown
        finally:
            shown.close()
            thread.join()


def _reply(writer: asyncio.StreamWriter, option: int, kind: int, data: bytes = b"") -> None:
    writer.write(struct.pack(">QIII", _REPLY_MAGIC, option, kind, len(data)) + data)


def _flags(export: _Export) -> int:
    return _HAS_FLAGS | _SEND_FLUSH | (0 if export.writable else _READ_ONLY)
