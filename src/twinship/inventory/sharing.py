"""What two hosts share: proved by a file, not by the type of a filesystem.

In each directory that is a pool on both, a small file is made on one host and looked for on the
other, then deleted.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from twinship.hypervisor import hosts, volumes
from twinship.hypervisor.connection import Connection
from twinship.model.errors import TwinshipError
from twinship.model.host import HostFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedDirectory:
    """One directory that is a pool on both hosts; ``shared`` None: it could not be tried."""

    path: str
    pool: str
    other_pool: str
    shared: bool | None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """The answer of ``host check A --with B``. ``missing`` are sentences with what to type."""

    host: str
    other: str
    directories: tuple[SharedDirectory, ...]
    networks: tuple[str, ...]
    missing: tuple[str, ...]


def compare(one: Connection, other: Connection) -> Sharing:
    """Compares two hosts; leaves nothing on either."""
    a, b = hosts.facts(one), hosts.facts(other)
    directories = []
    for pool in a.pools:
        twin = b.pool_at(pool.path) if pool.path else None
        if twin is None:
            continue
        if not (pool.active and twin.active):
            shared, why = None, "a pool is not active"
        else:
            shared, why = _token_seen(one, pool.name, other)
        directories.append(
            SharedDirectory(
                path=pool.path, pool=pool.name, other_pool=twin.name, shared=shared, why=why
            )
        )
    return Sharing(
        host=a.name,
        other=b.name,
        directories=tuple(directories),
        networks=tuple(sorted({n.name for n in a.networks} & {n.name for n in b.networks})),
        missing=tuple(_missing(a, b)),
    )


def new_token(pool: str) -> volumes.NewVolume:
    """A small file that nobody else has, to be looked for from elsewhere."""
    name = f".twinship-token-{secrets.token_hex(8)}"
    return volumes.NewVolume(pool=pool, name=name, format="raw", capacity_bytes=512)


def _token_seen(one: Connection, pool: str, other: Connection) -> tuple[bool | None, str]:
    try:
        path = volumes.create(one, new_token(pool))
    except TwinshipError as error:
        return None, error.cause or error.message
    try:
        return volumes.find(other, path) is not None, ""
    finally:
        volumes.delete(one, path)


def _missing(a: HostFacts, b: HostFacts) -> list[str]:
    found = []
    if a.uuid == b.uuid:
        found.append(
            f"both show the host UUID {a.uuid}: set host_uuid in /etc/libvirt/libvirtd.conf on "
            f"{b.name} (uuidgen makes one) and restart libvirtd"
        )
    there = {pool.path for pool in b.pools if pool.path}
    for pool in a.pools:
        if pool.path and pool.path not in there:
            found.append(
                f"{b.name} has no pool over {pool.path}: there, virsh pool-define-as {pool.name} "
                f"dir --target {pool.path} && virsh pool-build {pool.name} && "
                f"virsh pool-start {pool.name} && virsh pool-autostart {pool.name}"
            )
    names = {network.name for network in b.networks}
    for network in a.networks:
        if network.name not in names:
            found.append(
                f"{b.name} has no network {network.name}: virsh net-dumpxml {network.name} here, "
                "net-define and net-start there"
            )
    if a.arch != b.arch:
        found.append(f"{a.name} is {a.arch}, {b.name} is {b.arch}: no VM can move between them")
    return found
