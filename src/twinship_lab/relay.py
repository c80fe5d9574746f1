"""The controller's way to a host's libvirtd: one Unix socket joined to another.

Started by path, as ``python -I -S relay.py LISTEN CONNECT``; it imports only
the standard library. Stopped by SIGSTOP it is a black hole, as a cut cable is:
connections are still queued by the kernel, nothing is ever answered.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

_CHUNK_BYTES = 256 * 1024


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes of one direction until its end."""
    with suppress(ConnectionError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    with suppress(OSError):
        if writer.can_write_eof():
            writer.write_eof()


async def serve(listen: Path, connect: Path) -> None:
    """Accept for ever; a client whom no daemon answers is hung up on."""

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(str(connect))
        except OSError:
            writer.close()
            return
        ways = {
            asyncio.ensure_future(carry(reader, far_writer)),
            asyncio.ensure_future(carry(far_reader, writer)),
        }
        # The end of one direction ends the connection: libvirt's protocol has no half-open one.
        _, pending = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in pending:
            way.cancel()
        far_writer.close()
        writer.close()

    listen.unlink(missing_ok=True)
    fresh = listen.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(join, path=str(fresh), backlog=512)
    fresh.rename(listen)  # appears only once it answers
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
