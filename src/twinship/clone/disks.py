"""What becomes of each disk of the source, as the plan's spec has it; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinship.clone.facts import CloneFacts
from twinship.clone.ladder import LadderCase, climb
from twinship.model.request import CloneRequest, DiskChoice, DiskWay
from twinship.model.vm import Disk, ImageHeader, Layer
from twinship.planning import names

DEVICE_POOLS = frozenset({"logical"})
"""Types of pools whose volumes are block devices, and which make new ones of any size."""

SHARES = frozenset({"reflink", "overlay"})
"""Methods that take no space to begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskPlan:
    """``made``: disks with a new file. ``kept``: target to a file taken as it is. ``dropped``."""

    made: tuple[dict[str, Any], ...]
    kept: dict[str, str]
    dropped: tuple[str, ...]


def way_of(disk: Disk, request: CloneRequest) -> DiskWay:
    """What the clone does with a disk: never ``AUTO``."""
    way = choice_of(disk, request).way
    if way is not DiskWay.AUTO:
        return way
    own = disk.writable_file or (disk.own and disk.on_device)
    return DiskWay.COPY if own else DiskWay.SHARE


def choice_of(disk: Disk, request: CloneRequest) -> DiskChoice:
    """What was said of a disk."""
    said = (choice for choice in request.disks if choice.target == disk.target)
    return next(said, DiskChoice(target=disk.target))


def copied(facts: CloneFacts, request: CloneRequest) -> tuple[Disk, ...]:
    """The disks that get a new file."""
    return tuple(disk for disk in facts.source.disks if way_of(disk, request) is DiskWay.COPY)


def plan_disks(facts: CloneFacts, request: CloneRequest, name: str) -> DiskPlan:
    """Every disk of the source, by what becomes of it."""
    new = copied(facts, request)
    taken: dict[str, set[str]] = {pool: set(files) for pool, files in facts.files.items()}
    made = []
    for disk in new:
        if disk.top is None or disk.top.header is None:
            continue  # a check says what is wrong with it
        pool, file, path = _place(facts, request, name, disk, taken, alone=len(new) == 1)
        made.append(_spec(facts, request, disk, pool=pool, file=file, path=path))
    ways = {disk.target: way_of(disk, request) for disk in facts.source.disks}
    return DiskPlan(
        made=tuple(made),
        kept={
            disk.target: choice_of(disk, request).path
            for disk in facts.source.disks
            if ways[disk.target] is DiskWay.KEEP
        },
        dropped=tuple(target for target, way in ways.items() if way is DiskWay.DROP),
    )


def _place(
    facts: CloneFacts,
    request: CloneRequest,
    name: str,
    disk: Disk,
    taken: dict[str, set[str]],
    *,
    alone: bool,
) -> tuple[str, str, str]:
    """Pool, file name and path of the new file."""
    assert disk.top is not None
    path = choice_of(disk, request).path
    if path:
        directory, _, file = path.rpartition("/")
        pool = next((p.name for p in facts.host.pools if p.path.rstrip("/") == directory), "")
        return pool, file, path
    pool = request.pool or disk.top.pool
    linked = request.mode.value == "linked"
    suffix = ".qcow2" if linked else _suffix(disk.top.path, disk.format)
    if to_device(facts, pool):
        suffix = ""
    file = names.file_name(name, disk.target, suffix, taken.setdefault(pool, set()), alone=alone)
    taken[pool].add(file)
    directory = next((p.path for p in facts.host.pools if p.name == pool), "").rstrip("/")
    return pool, file, f"{directory}/{file}"


def to_device(facts: CloneFacts, pool: str) -> bool:
    """Whether the volumes of a pool are block devices."""
    return any(known.name == pool and known.type in DEVICE_POOLS for known in facts.host.pools)


def _spec(
    facts: CloneFacts, request: CloneRequest, disk: Disk, *, pool: str, file: str, path: str
) -> dict[str, Any]:
    top = disk.top
    assert top is not None
    assert top.header is not None
    seen = top.path in facts.seen_here
    moment = facts.snapshot.disks.get(disk.target, "") if facts.snapshot is not None else ""
    device = to_device(facts, pool)
    # libvirt does not grow a volume of a volume group: it is made large enough.
    room = max(top.length_bytes, dict(request.grow).get(disk.target, 0))
    method, against = climb(
        LadderCase(
            disk=disk,
            mode=request.mode,
            seen_here=seen,
            no_reflink=facts.no_reflink.get(top.path, ""),
            across=facts.across,
            snapshot=moment,
            allocate=request.full_allocation,
            to_device=device,
        )
    )
    overlay = method == "overlay"
    return {
        "target": disk.target,
        "pool": pool,
        "file": file,
        "path": path,
        "source": top.path,
        "format": "qcow2" if overlay else top.header.format,
        "source_format": top.header.format,
        "method": method,
        "back_to": moment == "internal",
        "reflink": ("here" if seen else "libvirt") if method == "reflink" else "",
        "why_not_faster": against,
        "bytes": room if device else _needed(request, disk, method, top.length_bytes),
        "length": top.length_bytes,
        "virtual": top.header.virtual_bytes,
        "cluster": 0 if overlay else top.header.cluster_bytes,
        "compat": "" if overlay else top.header.compat,
        "features": [] if overlay else list(top.header.features),
        "backing": [
            [layer.path, layer.header.format if layer.header else "raw"] for layer in disk.chain[1:]
        ],
        "allocate": request.full_allocation
        or device
        or (method == "carrier" and _preallocated(top, top.header)),
        "from_device": top.block,
        "to_device": device,
        "room": room if device else 0,
    }


def _preallocated(top: Layer, header: ImageHeader) -> bool:
    """Whether a qcow2 file has taken the space of all its guest can write."""
    return header.format == "qcow2" and header.virtual_bytes <= top.allocated_bytes


def _needed(request: CloneRequest, disk: Disk, method: str, length: int) -> int:
    """The bytes a new file takes."""
    if method == "overlay":
        return 0
    if request.full_allocation and disk.format == "raw":
        return length
    layers = disk.chain if method == "flatten" else disk.chain[:1]
    return sum(layer.allocated_bytes for layer in layers)


def bases_of(disk: Mapping[str, Any]) -> tuple[str, ...]:
    """The files of others that a disk of a spec depends on."""
    below = [path for path, _format in disk["backing"]]
    match disk["method"]:
        case "overlay":
            return (disk["source"], *below)
        case "flatten":
            return ()
        case _:
            return tuple(below)


def _suffix(path: str, kind: str) -> str:
    last = path.rpartition("/")[2]
    stem, dot, suffix = last.rpartition(".")
    if stem and dot and len(suffix) <= 7:
        return f".{suffix}"
    return ".qcow2" if kind == "qcow2" else ".img"
