"""Which VMs depend on the files of another of their host, and whether those are as they were."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from twinship.domxml import read as domread
from twinship.domxml.guard import guarded
from twinship.domxml.lineage import Base, lineage_of, with_bases
from twinship.domxml.template import template_of, with_template
from twinship.hypervisor import content, vms, volumes
from twinship.hypervisor.connection import Connection
from twinship.model.image import HEADER_BYTES
from twinship.model.vm import VmFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A VM that reads files of another one through its own disks."""

    name: str
    uuid: str


def children(connection: Connection, base: VmFacts) -> tuple[Child, ...]:
    """The VMs of the same host whose disks are based on a disk of ``base``."""
    mine = {disk.path for disk in base.disks if disk.source_type in ("file", "volume")} - {""}
    found = []
    for name, uuid, text in vms.definitions(connection):
        lineage = lineage_of(text) if uuid != base.vm.uuid else None
        if lineage is not None and mine & {part.path for part in lineage.bases}:
            found.append(Child(name=name, uuid=uuid))
    return tuple(sorted(found, key=lambda child: child.name))


def fingerprint(connection: Connection, path: str, *, whole: bool = False) -> Base | None:
    """A base file as it is now; None when it is gone. ``whole``: all of it is read."""
    found = volumes.find(connection, path)
    if found is None:
        return None
    header = volumes.read(connection, path, 0, min(HEADER_BYTES, found.length_bytes))
    return Base(
        path=path,
        length_bytes=found.length_bytes,
        changed=found.stamp.partition(" ")[2],
        header=hashlib.sha256(header).hexdigest()[:16],
        digest=content.digest(connection, path) if whole else "",
    )


def carried(connection: Connection, text: str, there: Callable[[str], str] = str) -> str:
    """The definition of a VM whose disks and bases were carried to another host, true there.

    ``there`` tells of a path that a mark names where the file lies on the other host, if elsewhere.
    What was carried is what it was: digests stay, and when it was born. A template's disks are
    read-only again.
    """
    template = template_of(text)
    if template is not None:
        disks = tuple(_moved(connection, disk, there) for disk in template.disks)
        text = with_template(text, replace(template, disks=disks))
        own = {disk.path for disk in disks}
        text = guarded(text, [disk.target for disk in domread.disks(text) if disk.path in own])
    lineage = lineage_of(text)
    if lineage is None or not lineage.bases:
        return text
    return with_bases(text, (_moved(connection, base, there) for base in lineage.bases))


def _moved(connection: Connection, then: Base, there: Callable[[str], str]) -> Base:
    now = fingerprint(connection, there(then.path))
    if now is None:
        return replace(then, path=there(then.path))
    return replace(now, digest=then.digest, born=then.born or then.changed)


def marks(connection: Connection) -> dict[str, tuple[Base, ...]]:
    """What the definitions of a host have noted of files others stand on, by path."""
    found: dict[str, list[Base]] = {}
    for _, _, text in vms.definitions(connection):
        lineage, template = lineage_of(text), template_of(text)
        noted = (*(lineage.bases if lineage else ()), *(template.disks if template else ()))
        for base in noted:
            found.setdefault(base.path, []).append(base)
    return {path: tuple(bases) for path, bases in found.items()}


def changes(connection: Connection, vm: VmFacts, *, whole: bool = False) -> tuple[str, ...]:
    """What is no longer as it was below the disks of a VM, each as a sentence.

    ``whole``: files of which the digest was kept are read from end to end.
    """
    lineage = lineage_of(vm.xml)
    return _differences(connection, lineage.bases if lineage is not None else (), whole=whole)


def template_changes(connection: Connection, text: str, *, whole: bool = False) -> tuple[str, ...]:
    """What is no longer as it was of a template's own disks; nothing for any other VM."""
    template = template_of(text)
    return _differences(connection, template.disks if template is not None else (), whole=whole)


def _differences(connection: Connection, files: Iterable[Base], *, whole: bool) -> tuple[str, ...]:
    told = []
    for then in files:
        then = replace(then, born="", digest=then.digest if whole else "")
        now = fingerprint(connection, then.path, whole=bool(then.digest))
        if now is None:
            told.append(f"{then.path} is gone")
        elif now != then:
            what = (
                f"its length was {then.length_bytes} bytes, is {now.length_bytes}"
                if now.length_bytes != then.length_bytes
                else "it was written to"
            )
            told.append(f"{then.path} has changed: {what}")
    return tuple(told)
