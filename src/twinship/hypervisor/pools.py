"""Storage pools over directories: libvirt reaches files through them only."""

from __future__ import annotations

import posixpath
from itertools import count

import libvirt
from lxml import etree

from twinship.domxml.document import parse, serialize, text_of
from twinship.hypervisor import volumes
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.translate import doing, translated


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


def listed(connection: Connection) -> tuple[str, ...]:
    """The names of all pools of the host."""
    with doing(f"list the storage pools of {connection.name}"):
        return tuple(str(pool.name()) for pool in connection.raw.listAllStoragePools(0))


def temporary_pool(connection: Connection, name: str, path: str, *, build: bool = False) -> None:
    """Makes a transient pool over a directory: a window on its files, nothing more.

    ``build``: makes the directory, mode 0700, if it is missing. Raises :class:`HypervisorError`; an
    existing pool over the same directory is an error too.
    """
    root = etree.Element("pool", type="dir")
    etree.SubElement(root, "name").text = name
    target = etree.SubElement(root, "target")
    etree.SubElement(target, "path").text = path
    flags = 0
    if build:
        etree.SubElement(etree.SubElement(target, "permissions"), "mode").text = "0700"
        flags = libvirt.VIR_STORAGE_POOL_CREATE_WITH_BUILD
    with doing(f"open the directory {path} on {connection.name}"):
        connection.raw.storagePoolCreateXML(serialize(root), flags)


def delete_directory(connection: Connection, pool: str, path: str) -> None:
    """Deletes a directory and the files in it, through a pool of this name for the time being.

    Harmless where there is none; one with directories in it stays.
    """
    with doing(f"delete the directory {path} on {connection.name}"):
        found = connection.raw.storagePoolDefineXML(_pool_xml(pool, path), 0)
        try:
            try:
                found.create(0)
            except libvirt.libvirtError as error:
                if "No such file" in str(error):
                    return
                raise
            left = False
            for volume in found.listAllVolumes(0):
                if volume.info()[0] == libvirt.VIR_STORAGE_VOL_DIR:
                    left = True
                else:
                    volume.delete(0)
            found.destroy()
            if not left:
                found.delete(0)
        finally:
            found.undefine()


def close_temporary_pool(connection: Connection, name: str) -> None:
    """Closes a pool of :func:`temporary_pool`; its files stay. Harmless when it is closed."""
    try:
        connection.raw.storagePoolLookupByName(name).destroy()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
            raise translated(error, f"close the pool {name} on {connection.name}") from error


def _pool_xml(name: str, directory: str) -> str:
    root = etree.Element("pool", type="dir")
    etree.SubElement(root, "name").text = name
    etree.SubElement(etree.SubElement(root, "target"), "path").text = directory
    return serialize(root)
