"""Block devices of a host, as far as a connection shows them."""

from __future__ import annotations

import libvirt

from twinship.domxml.document import parse
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.translate import translated


def block_paths(connection: Connection) -> frozenset[str]:
    """Every path under which a disk of the host can be named, links of udev's included.

    Logical volumes are not among them: those are shown by their storage pool. Empty where the host
    does not show its devices.
    """
    found: set[str] = set()
    try:
        listed = connection.raw.listAllDevices(libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_STORAGE)
        for device in listed:
            root = parse(device.XMLDesc(0))
            found |= {(node.text or "").strip() for node in root.findall("devnode")}
            found |= {(node.text or "").strip() for node in root.findall("capability/block")}
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (
            libvirt.VIR_ERR_NO_SUPPORT,
            libvirt.VIR_ERR_NO_NODE_DEVICE,
        ):
            raise translated(error, f"list the devices of {connection.name}") from error
    return frozenset(found - {""})
