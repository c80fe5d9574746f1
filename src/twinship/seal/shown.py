"""A VM's disks as images, wherever the VM's host is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from twinship.guestfs.image import Image, Layer
from twinship.guestfs.window import window
from twinship.hypervisor.connection import Connection
from twinship.transfer import reflink
from twinship.transfer.steps import Hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The files of a disk, its own first, each with its format."""

    files: tuple[tuple[str, str], ...]
    writable: bool = False


@contextmanager
def shown(hosts: Hosts, host: str, chains: Sequence[Chain]) -> Iterator[list[Image]]:
    """The disks while the block runs.

    A file that this process is proved to see is opened as it is; any other is read, and the first
    of a ``writable`` chain written, over the host's libvirt connection.
    """
    connection = hosts.connection(host)
    paths = [path for chain in chains for path, _ in chain.files]
    here = {path: is_here(connection, path) for path in dict.fromkeys(paths)}
    with ExitStack() as stack:
        away = None
        if not all(here.values()):
            away = stack.enter_context(window(lambda: hosts.connection(host)))
        images = []
        for chain in chains:
            layers = []
            for depth, (path, kind) in enumerate(chain.files):
                if here[path] or away is None:
                    layers.append(Layer(path=Path(path), format=kind))
                else:
                    writable = chain.writable and depth == 0
                    layers.append(away.layer(connection, path, kind, writable=writable))
            images.append(Image(layers=tuple(layers)))
        yield images


def is_here(connection: Connection, path: str) -> bool:
    """Whether this process sees the host's file."""
    return reflink.seen_here(connection, path)
