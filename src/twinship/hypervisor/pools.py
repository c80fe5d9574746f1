"""Storage pools over directories: libvirt reaches files through them only."""

from __future__ import annotations

import posixpath
from itertools import count

import libvirt
from lxml import etree

from twinship.domxml.document import parse, serialize, text_of
from twinship.hypervisor import volumes
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.translate import doing


def over(connection: Connection, directory: str) -> str:
    """The active pool over a directory; one that is not active is started, else one is made.

    A pool that is made stays: it is named like the directory and starts with the host, as those of
    virt-install and virt-clone do. Raises :class:`HypervisorError`, also for a directory that is
    not there; no pool is left then.
    """
    found = volumes.pool_of(connection, directory)
    if found is not None:
        return found
    with doing(f"open the directory {directory} on {connection.name}"):
        known = {pool.name(): pool for pool in connection.raw.listAllStoragePools(0)}
        for name, pool in known.items():
            if text_of(parse(pool.XMLDesc(0)), "target/path") == directory:
                pool.create(0)
                return str(name)
        base = posixpath.basename(directory) or "root"
        tries = (base if number == 0 else f"{base}-{number}" for number in count())
        name = next(name for name in tries if name not in known)
        made = connection.raw.storagePoolDefineXML(_pool_xml(name, directory), 0)
        try:
            made.create(0)
        except libvirt.libvirtError:
            made.undefine()
            raise
        made.setAutostart(1)
    return name


def _pool_xml(name: str, directory: str) -> str:
    root = etree.Element("pool", type="dir")
    etree.SubElement(root, "name").text = name
    etree.SubElement(etree.SubElement(root, "target"), "path").text = directory
    return serialize(root)
