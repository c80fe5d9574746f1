"""What libvirt keeps of a VM besides its definition: records of snapshots and of checkpoints.

They are metadata only: the bytes they speak of lie in the VM's disks, and in files they name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import libvirt

from twinship.domxml.records import with_files_at
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.translate import doing
from twinship.hypervisor.vms import need


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record. ``xml`` holds the VM's definition of then, with its secrets."""

    name: str
    xml: str
    current: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """All of a VM, each after the one it stands on."""

    snapshots: tuple[Record, ...] = ()
    checkpoints: tuple[Record, ...] = ()

    def with_files_at(self, there: Callable[[str], str]) -> Records:
        """The records of a VM whose files lie where ``there`` tells of each path."""
        return Records(
            snapshots=tuple(_moved(record, there) for record in self.snapshots),
            checkpoints=tuple(_moved(record, there) for record in self.checkpoints),
        )


def read(connection: Connection, uuid: str) -> Records:
    """The records of a VM. Raises :class:`twinship.model.errors.Gone`."""
    domain = need(connection, uuid)
    with doing(f"read the snapshots of VM {uuid} on {connection.name}"):
        return Records(
            snapshots=tuple(
                Record(
                    name=snapshot.getName(),
                    xml=snapshot.getXMLDesc(libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE),
                    current=bool(snapshot.isCurrent(0)),
                )
                for snapshot in domain.listAllSnapshots(
                    libvirt.VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL
                )
            ),
            checkpoints=tuple(
                Record(
                    name=checkpoint.getName(),
                    xml=checkpoint.getXMLDesc(libvirt.VIR_DOMAIN_CHECKPOINT_XML_SECURE),
                )
                for checkpoint in domain.listAllCheckpoints(
                    libvirt.VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL
                )
            ),
        )


def put(connection: Connection, uuid: str, records: Records) -> None:
    """Gives these records to a VM that has the disks they speak of; those it has stay.

    libvirt keeps them word for word; nothing is done to a disk. (libvirt 9.0 makes no checkpoint
    of a VM that is shut off, but takes the record of one.)
    """
    domain = need(connection, uuid)
    with doing(f"keep the snapshots of VM {uuid} on {connection.name}"):
        known = frozenset(domain.snapshotListNames(0))
        for record in _missing(records.snapshots, known):
            flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
            if record.current:
                flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
            domain.snapshotCreateXML(record.xml, flags)
    with doing(f"keep the checkpoints of VM {uuid} on {connection.name}"):
        known = frozenset(checkpoint.getName() for checkpoint in domain.listAllCheckpoints(0))
        for record in _missing(records.checkpoints, known):
            domain.checkpointCreateXML(record.xml, libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE)


def counted(connection: Connection, uuid: str) -> tuple[int, int]:
    """How many snapshots and checkpoints there are records of."""
    domain: Any = need(connection, uuid)
    with doing(f"count the snapshots of VM {uuid} on {connection.name}"):
        return int(domain.snapshotNum(0)), len(domain.listAllCheckpoints(0))


def _moved(record: Record, there: Callable[[str], str]) -> Record:
    return replace(record, xml=with_files_at(record.xml, there))


def _missing(records: Iterable[Record], known: frozenset[str]) -> Iterable[Record]:
    return (record for record in records if record.name not in known)
