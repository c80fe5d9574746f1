"""Snapshots: one moment of all disks of a running VM, and those a user made."""

from __future__ import annotations

from collections.abc import Mapping

import libvirt
from lxml import etree

from twinship.domxml.document import parse, serialize, text_of
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.translate import doing, translated
from twinship.hypervisor.vms import need
from twinship.model.errors import Gone, HostUnreachable
from twinship.model.vm import SnapshotFacts


def overlay_all(
    connection: Connection,
    uuid: str,
    overlays: Mapping[str, str],
    others: frozenset[str],
    *,
    freeze: bool,
) -> bool:
    """Puts an overlay over each of these disks of a running VM, all in one instant.

    ``overlays`` is target to a new file, ``others`` the targets left alone. What was written until
    then is in the files below, which nobody writes any more. ``freeze``: the guest agent flushes
    and holds the guest's filesystems meanwhile (libvirt thaws them, whatever happens); whether that
    worked. libvirt keeps no record of such a snapshot. All or nothing: raises
    :class:`twinship.model.errors.HypervisorError` with the disks as they were.
    """
    xml = _overlay_xml(overlays, others)
    flags = (
        libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
        | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
        | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
    )
    domain = need(connection, uuid)
    if freeze:
        try:
            domain.snapshotCreateXML(xml, flags | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE)
        except libvirt.libvirtError as error:
            # No agent, one that cannot freeze, or something the second try meets as well.
            refused = translated(error, f"freeze the guest of VM {uuid}")
            if isinstance(refused, HostUnreachable):
                raise refused from error
        else:
            return True
    with doing(f"hold the disks of VM {uuid} still on {connection.name}"):
        domain.snapshotCreateXML(xml, flags)
    return False


def _overlay_xml(overlays: Mapping[str, str], others: frozenset[str]) -> str:
    root = etree.Element("domainsnapshot")
    disks = etree.SubElement(root, "disks")
    for target, path in overlays.items():
        disk = etree.SubElement(disks, "disk", name=target, snapshot="external", type="file")
        etree.SubElement(disk, "driver", type="qcow2")
        etree.SubElement(disk, "source", file=path)
    for target in sorted(others):
        etree.SubElement(disks, "disk", name=target, snapshot="no")
    return serialize(root)


def start_commit(connection: Connection, uuid: str, target: str) -> None:
    """Begins to write a disk's topmost overlay back into the file right below it.

    :func:`twinship.hypervisor.jobs.copy_state` follows it; once it is ready, :func:`pivot` puts the
    VM on that file again. One that is under way already is left as it is.
    """
    flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE | libvirt.VIR_DOMAIN_BLOCK_COMMIT_SHALLOW
    domain = need(connection, uuid)
    try:
        if domain.blockJobInfo(target, 0):
            return
        domain.blockCommit(target, None, None, 0, flags)
    except libvirt.libvirtError as error:
        raise translated(error, f"take disk {target} back on {connection.name}") from error


def pivot(connection: Connection, uuid: str, target: str) -> None:
    """Ends a commit that is ready: from here on the VM is on the file below."""
    with doing(f"put the VM on disk {target} again on {connection.name}"):
        need(connection, uuid).blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)


def listing(connection: Connection, uuid: str) -> tuple[str, ...]:
    """The names of the snapshots libvirt keeps of a VM."""
    with doing(f"list the snapshots of VM {uuid} on {connection.name}"):
        return tuple(need(connection, uuid).snapshotListNames(0))


def read(connection: Connection, uuid: str, name: str) -> SnapshotFacts:
    """One of them. Raises :class:`Gone` (``SNAPSHOT_NOT_FOUND``), naming those there are."""
    domain = need(connection, uuid)
    try:
        snapshot = domain.snapshotLookupByName(name, 0)
        text = snapshot.getXMLDesc(libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT:
            raise translated(error, f"read snapshot {name} of VM {uuid}") from error
        known = ", ".join(listing(connection, uuid)) or "none"
        raise Gone(
            f"the VM has no snapshot {name!r}", code="SNAPSHOT_NOT_FOUND", hint=f"it has: {known}"
        ) from error
    root = parse(text)
    definition = root.find("inactiveDomain")
    if definition is None:
        definition = root.find("domain")
    if definition is None:
        raise Gone(
            f"snapshot {name!r} does not hold the VM's definition", code="SNAPSHOT_NOT_FOUND"
        )
    definition.tag = "domain"
    return SnapshotFacts(
        name=name,
        running=text_of(root, "state") in ("running", "paused"),
        disks={
            disk.get("name", ""): disk.get("snapshot", "no")
            for disk in root.findall("disks/disk")
            if disk.get("snapshot", "no") in ("internal", "external")
        },
        xml=serialize(definition),
    )


def go_back(connection: Connection, xml: str, name: str, targets: frozenset[str]) -> None:
    """Puts qcow2 files on an internal snapshot that they hold, and deletes it in them.

    ``xml`` defines a VM on these files for the time being: libvirt's daemon does
    it with qemu-img, beside the files, wherever the host is. Nothing of the VM is left; called
    again after it was cut off, it does the rest.
    """
    root = etree.Element("domainsnapshot")
    etree.SubElement(root, "name").text = name
    etree.SubElement(root, "state").text = "shutoff"
    etree.SubElement(root, "creationTime").text = "0"  # libvirt wants one; the copies lose it
    etree.SubElement(root, "memory", snapshot="no")
    disks = etree.SubElement(root, "disks")
    for target in sorted(targets):
        etree.SubElement(disks, "disk", name=target, snapshot="internal")
    root.append(parse(xml))
    with doing(f"go back to snapshot {name} on {connection.name}"):
        domain = connection.raw.defineXML(xml)
        snapshot = domain.snapshotCreateXML(
            serialize(root), libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
        )
        domain.revertToSnapshot(snapshot, 0)
        snapshot.delete(0)
        domain.undefine()


def forget(connection: Connection, uuid: str) -> None:
    """Removes what :func:`go_back` leaves when it is cut off; harmless when there is nothing."""
    try:
        domain = connection.raw.lookupByUUIDString(uuid)
        if domain.isPersistent():
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise translated(error, f"undefine VM {uuid} on {connection.name}") from error
