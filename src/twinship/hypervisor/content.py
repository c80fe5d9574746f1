"""The bytes of volumes, many of them: a digest of all, and reading and writing here and there."""

from __future__ import annotations

import hashlib
from typing import Any

import libvirt

from twinship.hypervisor.connection import Connection
from twinship.hypervisor.translate import doing
from twinship.hypervisor.volumes import need

_AT_HOLE = -3
"""What libvirt's recvFlags returns where a hole begins (virStreamRecvFlags)."""
_PACKET_BYTES = 262_144
"""What libvirt carries of a stream at a time (VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX)."""
_BLOCK_BYTES = 65_536
_ZEROES = bytes(_BLOCK_BYTES)


def digest(connection: Connection, path: str) -> str:
    """A SHA-256 over a volume's content; all of what it really holds is read.

    Taken over each block of 64 KiB that is not all zeroes, and its number: a sparse copy has the
    digest of a full one, and holes cost nothing (libvirt sends them as such since 3.4).
    """
    volume = need(connection, path)
    content = BlockDigest()
    with doing(f"read {path} on {connection.name}"):
        stream = connection.raw.newStream(0)
        volume.download(stream, 0, 0, libvirt.VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM)
        while True:
            data = stream.recvFlags(_PACKET_BYTES, libvirt.VIR_STREAM_RECV_STOP_AT_HOLE)
            if data == _AT_HOLE:
                content.skip(stream.recvHole())
            elif data:
                content.add(data)
            else:
                break
        stream.finish()
    return content.digest()


class BlockDigest:
    """Takes a volume's content in pieces of any size."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._number = 0
        self._block = b""

    def add(self, data: bytes) -> None:
        """Takes what comes next."""
        data = self._block + data
        whole = len(data) // _BLOCK_BYTES * _BLOCK_BYTES
        for at in range(0, whole, _BLOCK_BYTES):
            self._take(data[at : at + _BLOCK_BYTES])
        self._block = data[whole:]

    def skip(self, length: int) -> None:
        """Takes zeroes that were not sent."""
        if self._block:
            here = min(length, _BLOCK_BYTES - len(self._block))
            self.add(bytes(here))
            length -= here
        if not self._block:
            self._number += length // _BLOCK_BYTES
            self._block = bytes(length % _BLOCK_BYTES)

    def digest(self) -> str:
        """Of all that was taken, in hexadecimal."""
        self._take(self._block)
        self._block = b""
        return self._hash.hexdigest()

    def _take(self, block: bytes) -> None:
        if block != _ZEROES[: len(block)]:
            self._hash.update(self._number.to_bytes(8))
            self._hash.update(block)
        self._number += 1


class OpenVolume:
    """A volume that is read and written here and there: looked up once."""

    def __init__(self, connection: Connection, path: str) -> None:
        """Raises :class:`Gone` when there is no such volume."""
        self._connection = connection
        self._path = path
        self._volume: Any = need(connection, path)

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``; fewer at its end."""
        parts: list[bytes] = []
        with doing(f"read {self._path} on {self._connection.name}"):
            stream = self._connection.raw.newStream(0)
            self._volume.download(stream, offset, length, 0)
            while data := stream.recv(_PACKET_BYTES):
                parts.append(data)
            stream.finish()
        return b"".join(parts)[:length]

    def write(self, offset: int, data: bytes) -> None:
        """Writes at ``offset``; a file may grow by it."""
        with doing(f"write {self._path} on {self._connection.name}"):
            stream = self._connection.raw.newStream(0)
            self._volume.upload(stream, offset, len(data), 0)
            sent = 0
            while sent < len(data):
                sent += stream.send(data[sent : sent + _PACKET_BYTES])
            stream.finish()
