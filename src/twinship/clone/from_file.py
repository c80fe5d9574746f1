"""A clone's source that is no VM, but a definition in a file of this machine.

The database keeps the file's name and a digest, never what is in it: definitions hold passwords.
"""

from __future__ import annotations

import uuid as uuids
from pathlib import Path

from twinship.domxml import read as domread
from twinship.domxml.guard import unguarded
from twinship.hypervisor import vms
from twinship.hypervisor.connection import Connection
from twinship.model.errors import TwinshipError, UsageError
from twinship.model.vm import Vm, VmFacts, VmState
from twinship.planning.binding import digest


def read_definition(path: str, *, expected: str = "") -> str:
    """The definition in the file.

    Raises :class:`UsageError` for a file that cannot be read, and ``SOURCE_CHANGED`` when it has
    another digest than ``expected``.
    """
    try:
        text = unguarded(Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}", cause=str(error)) from None
    if expected and digest(text) != expected:
        raise TwinshipError(f"{path} has changed since the plan was made", code="SOURCE_CHANGED")
    return text


def source_of(connection: Connection, path: str) -> VmFacts:
    """The VM that a definition would be on a host: shut off, with the disks it names.

    Raises :class:`UsageError` for what is no definition, or one with block devices, whose length
    only a VM's own host tells.
    """
    text = read_definition(path)
    summary, disks = domread.summary(text), domread.disks(text)
    if not summary.name:
        raise UsageError(f"{path} is no definition of a VM: it has no <name>", code="BAD_XML")
    for disk in disks:
        if disk.source_type == "block" and not disk.readonly:
            raise UsageError(
                f"disk {disk.target} of {path} is a block device",
                hint="define the VM, and clone that",
            )
    uuid = summary.uuid or str(uuids.uuid5(uuids.NAMESPACE_OID, text))
    return VmFacts(
        vm=Vm(
            host=connection.name,
            name=summary.name,
            uuid=uuid,
            state=VmState.SHUT_OFF,
            persistent=True,
            vcpus=summary.vcpus,
            memory_bytes=summary.memory_bytes,
        ),
        inactive_xml=text,
        disks=vms.with_chains(connection, uuid, disks),
    )
