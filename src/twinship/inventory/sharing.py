"""What two hosts share: proved by a file, not by the type of a filesystem.

In each directory that is a pool on both, a small file is made on one host and looked for on the
other, then deleted.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from twinship.domxml.abilities import abilities, host_model
from twinship.hypervisor import hosts, traits, volumes
from twinship.hypervisor.connection import Connection
from twinship.inventory.pair import PairSide, compared
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
    """The answer of ``host check A --with B``. ``missing`` are sentences with what to type.

    ``notes`` are what may matter to some VMs.
    """

    host: str
    other: str
    directories: tuple[SharedDirectory, ...]
    networks: tuple[str, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...] = ()


def compare(one: Connection, other: Connection) -> Sharing:
    """Compares two hosts; leaves nothing on either."""
    sides = pair_sides(one, other)
    a, b = (side.facts for side in sides)
    said = compared(*sides)
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
        missing=tuple(each.text for each in said if each.missing),
        notes=tuple(each.text for each in said if not each.missing),
    )


def pair_sides(one: Connection, other: Connection) -> tuple[PairSide, PairSide]:
    """What two hosts show of themselves, as far as moves between them want to know."""
    offers = [_offers(connection) for connection in (one, other)]
    models = [host_model(text) for text in offers]
    facts = [hosts.facts(connection) for connection in (one, other)]
    common = ""
    if all(models) and facts[0].arch == facts[1].arch:
        kind = _best_type(facts[0])
        common = hosts.baseline(
            one, models, emulator="", arch=facts[0].arch, machine="", domain_type=kind
        )
    return (
        _side(one, facts[0], offers[0], common),
        _side(other, facts[1], offers[1], common),
    )


def _side(connection: Connection, facts: HostFacts, offer: str, common: str) -> PairSide:
    return PairSide(
        facts=facts,
        bridges=traits.bridges(connection),
        filters=traits.filters(connection),
        secrets=traits.secrets(connection),
        machines=traits.machines(connection, facts.arch),
        loaders=abilities(offer).loaders if offer else frozenset(),
        bios=traits.bios(connection),
        cpu_baseline=" ".join(common.split()),
    )


def _offers(connection: Connection) -> str:
    facts = hosts.facts(connection)
    text, _ = hosts.capabilities_for(
        connection, emulator="", arch=facts.arch, machine="", domain_type=_best_type(facts)
    )
    return text


def _best_type(facts: HostFacts) -> str:
    return "kvm" if "kvm" in facts.domain_types else "qemu"


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
