"""Guards the disks of a VM as long as others are based on them, against those who do not ask us."""

from __future__ import annotations

from collections.abc import Collection

from twinship.domxml.guard import guarded, unguarded
from twinship.domxml.template import template_of
from twinship.hypervisor import vms
from twinship.hypervisor.connection import Connection
from twinship.inventory.lineage import children


def guard(connection: Connection, uuid: str, targets: Collection[str]) -> bool:
    """Makes these disks read-only in the VM's definition; False when nothing was changed.

    A VM that runs or has gone is left alone.
    """
    found = vms.state(connection, uuid)
    if found is None or found[0].active or not found[2]:
        return False
    before = vms.stored_xml(connection, uuid)
    after = guarded(before, targets)
    if after == before:
        return False
    vms.define(connection, after)
    return True


def release(connection: Connection, uuid: str) -> bool:
    """Makes the disks writable again; False when they were."""
    found = vms.state(connection, uuid)
    if found is None or not found[2]:
        return False
    before = vms.stored_xml(connection, uuid)
    if template_of(before) is not None:
        return False  # a template's are never writable
    after = unguarded(before)
    if after == before:
        return False
    vms.define(connection, after)
    return True


def release_if_free(connection: Connection, uuid: str) -> bool:
    """The same, unless another VM is still based on these disks."""
    found = vms.state(connection, uuid)
    if found is None or children(connection, vms.facts(connection, uuid)):
        return False
    return release(connection, uuid)
