"""What happens to each disk of a VM that moves; pure.

A disk that both hosts see stays. Any other goes along: of a shut-off VM file by file, but for those
files of its chain that the target has already; of a running one QEMU mirrors either what the guest
sees, which makes one file, or the topmost file alone, onto the target's own copy of what is below
(`increment`). libvirt does the one or the other for all disks of a move.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from twinship.migrate.facts import MigrateFacts
from twinship.model.request import MigrateRequest, StorageWay
from twinship.model.vm import Disk, Layer

_REMOTE = ("network", "nvme", "vhostuser")


class Way(StrEnum):
    """What happens to one disk."""

    COPY = "copy"
    INCREMENT = "increment"
    SHARED = "shared"
    STAY = "stay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A disk's way, and ``why`` where that is not plain.

    ``layers`` are the files made on the target for the disk itself, ``before`` those that a live
    move has to carry before it begins, ``standing`` those that are there already, ``in_the_way``
    those of which the target has another of that name.
    """

    disk: Disk
    way: Way
    why: str = ""
    layers: tuple[Layer, ...] = ()
    before: tuple[Layer, ...] = ()
    standing: tuple[Layer, ...] = ()
    in_the_way: tuple[Layer, ...] = ()

    @property
    def moves(self) -> bool:
        """Whether bytes of it go over."""
        return self.way in (Way.COPY, Way.INCREMENT)


def routes(facts: MigrateFacts, request: MigrateRequest, *, live: bool) -> tuple[Route, ...]:
    """The way of every disk, in the order of the definition."""
    found = tuple(_route(facts, request, disk, live=live) for disk in facts.vm.disks)
    if not live:
        return found
    flat = next((r for r in found if r.way is Way.COPY and len(r.disk.chain) > 1), None)
    if flat is None or request.storage is StorageWay.INCREMENT:
        return found
    why = f"a live move makes one file of all disks or of none, and of {flat.disk.target} it has to"
    return tuple(_flat(route, why) if route.way is Way.INCREMENT else route for route in found)


def _route(facts: MigrateFacts, request: MigrateRequest, disk: Disk, *, live: bool) -> Route:
    if disk.empty or disk.source_type in _REMOTE:
        return Route(disk=disk, way=Way.SHARED if disk.source_type == "network" else Way.STAY)
    if disk.source_type == "block":
        insisted = request.storage is StorageWay.SHARED and facts.storage.devices.get(disk.path)
        return Route(disk=disk, way=Way.SHARED if insisted else Way.STAY)
    if disk.source_type != "file" or disk.readonly or disk.device not in ("disk", "lun"):
        return Route(disk=disk, way=Way.STAY)
    top = facts.files.get(disk.path)
    if request.storage is not StorageWay.COPY and top is not None and top.same:
        return Route(disk=disk, way=Way.SHARED)
    if live:
        return _live(facts, request, disk)
    return _offline(facts, request, disk)


def _offline(facts: MigrateFacts, request: MigrateRequest, disk: Disk) -> Route:
    standing, carried, in_the_way = _parted(facts, request, disk.chain[1:])
    return Route(
        disk=disk,
        way=Way.INCREMENT if standing else Way.COPY,
        why=_reasons(facts, standing),
        layers=(*disk.chain[:1], *carried),
        standing=standing,
        in_the_way=in_the_way,
    )


def _live(facts: MigrateFacts, request: MigrateRequest, disk: Disk) -> Route:
    top, below = disk.chain[:1], disk.chain[1:]
    if not below or request.storage is StorageWay.COPY:
        return Route(disk=disk, way=Way.COPY, layers=top)
    standing, carried, in_the_way = _parted(facts, request, below)
    route = Route(
        disk=disk,
        way=Way.INCREMENT,
        why=_reasons(facts, standing),
        layers=top,
        before=carried,
        standing=standing,
        in_the_way=in_the_way,
    )
    if request.storage is StorageWay.INCREMENT:
        return route
    if obstacle := _obstacle(facts, carried, standing, in_the_way):
        return _flat(route, obstacle)
    return route


def _flat(route: Route, why: str) -> Route:
    return replace(route, way=Way.COPY, why=why, before=(), standing=(), in_the_way=())


def _parted(
    facts: MigrateFacts, request: MigrateRequest, below: Iterable[Layer]
) -> tuple[tuple[Layer, ...], tuple[Layer, ...], tuple[Layer, ...]]:
    """The backing files that stand on the target, that go along, and whose name is taken."""
    standing, carried, in_the_way = [], [], []
    for layer in below:
        there = facts.files.get(layer.path)
        if there is None or not there.exists:
            carried.append(layer)
            continue
        if there.same and request.storage is not StorageWay.COPY:
            standing.append(layer)
            continue
        base = facts.storage.bases.get(layer.path)
        wanted = request.storage is not StorageWay.COPY
        if wanted and base is not None and base.stands(compared=request.verify):
            standing.append(layer)
        else:
            carried.append(layer)
            in_the_way.append(layer)
    return tuple(standing), tuple(carried), tuple(in_the_way)


def _obstacle(
    facts: MigrateFacts,
    carried: Sequence[Layer],
    standing: Sequence[Layer],
    taken: Sequence[Layer],
) -> str:
    """Why a running VM's disk cannot stay upon its backing files; empty when it can."""
    for layer in taken:
        return f"{facts.target.name} has another {facts.there(layer.path)}"
    for layer in carried:
        if layer.problem:
            return layer.problem
        pool = facts.pool_for(layer.path)
        if pool is None or not pool.active:
            directory = posixpath.dirname(facts.there(layer.path))
            return f"{facts.target.name} has no active pool over {directory}"
    for layer in (*carried, *standing):
        if not facts.places.still_names(layer):
            return f"{layer.path} would not find its own backing file on {facts.target.name}"
    return ""


def _reasons(facts: MigrateFacts, standing: Iterable[Layer]) -> str:
    told = []
    for layer in standing:
        base = facts.storage.bases.get(layer.path)
        shared, there = facts.files[layer.path].same, facts.there(layer.path)
        if shared or base is None:
            told.append(f"{layer.path} is seen by both hosts")
        elif base.known:
            told.append(f"{there} is on {facts.target.name} ({base.why})")
        else:
            told.append(f"{there} is on {facts.target.name}, all of it is compared before")
    return "; ".join(told)


def directories(layers: Iterable[Layer]) -> dict[str, int]:
    """Bytes to be written by directory of the source, each file counted once."""
    needed: dict[str, int] = {}
    for layer in {layer.path: layer for layer in layers}.values():
        directory = posixpath.dirname(layer.path)
        needed[directory] = needed.get(directory, 0) + layer.allocated_bytes
    return needed
