"""Volumes through libvirt: looking, making, deleting, and reading or writing a few bytes of them.

libvirt knows the files of a pool as of its last refresh; a path it does not know is looked for
again after one refresh of the pool it lies in.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Any

import libvirt
from lxml import etree

from twinship.domxml.document import parse, serialize, text_of
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.translate import doing, translated
from twinship.model.errors import Gone
from twinship.model.image import read_header
from twinship.model.vm import Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeFacts:
    """A volume as libvirt shows it now. ``length_bytes`` is its file's length.

    ``stamp`` is its change and modification time to the nanosecond: equal for one file seen from
    two hosts, and not to be had for a copy (nobody can set a change time). Empty if not told.
    """

    path: str
    pool: str
    format: str
    capacity_bytes: int
    allocated_bytes: int
    length_bytes: int
    stamp: str
    backing_path: str = ""
    encrypted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVolume:
    """A volume to be made, thin unless ``allocate``.

    ``compat`` and ``cluster_bytes`` matter for qcow2 only; with ``backing_path`` it is an overlay.
    """

    pool: str
    name: str
    format: str
    capacity_bytes: int
    compat: str = ""
    cluster_bytes: int = 0
    features: tuple[str, ...] = ()
    backing_path: str = ""
    backing_format: str = ""
    allocate: bool = False


def find(connection: Connection, path: str) -> VolumeFacts | None:
    """The volume at ``path``, or None when no pool of the host holds such a file."""
    volume = _lookup(connection, path)
    return _facts(connection, volume) if volume is not None else None


LOOKS = 5
"""How often a file is looked at that is written meanwhile: its times change between two looks."""


def are_one(one: Connection, path: str, other: Connection, other_path: str) -> bool:
    """Whether two hosts mean one file by these paths.

    Its length and change time have to agree, to the nanosecond: no copy can imitate that. A file
    that is being written is looked at a few times.
    """
    before = ""
    for _ in range(LOOKS):
        here, there = find(one, path), find(other, other_path)
        if here is None or there is None or here.stamp in ("", before):
            return False  # it is not there, or nobody writes to it: they differ for good
        if (here.length_bytes, here.stamp) == (there.length_bytes, there.stamp):
            return True
        before = here.stamp
    return False


def create(connection: Connection, new: NewVolume) -> str:
    """Makes a volume and returns its path. Fails if the name is taken, so that it is ours alone.

    Raises :class:`HypervisorError` with code ``VOLUME_EXISTS`` or ``STORAGE_FULL``.
    """
    with doing(f"create volume {new.name} in pool {new.pool} on {connection.name}"):
        pool = connection.raw.storagePoolLookupByName(new.pool)
        return str(pool.createXML(_volume_xml(new), 0).path())


def create_reflinked(connection: Connection, new: NewVolume, source: str) -> str:
    """Makes a raw volume that shares the blocks of another; returns its path.

    Raises :class:`HypervisorError` where the filesystem cannot; nothing is left then. (libvirt has
    the flag since 1.2.13, for raw volumes, and deletes what it made when the kernel refuses.)
    """
    volume = need(connection, source)
    flags = libvirt.VIR_STORAGE_VOL_CREATE_REFLINK
    with doing(f"reflink {source} in pool {new.pool} on {connection.name}"):
        pool = connection.raw.storagePoolLookupByName(new.pool)
        return str(pool.createXMLFrom(_volume_xml(new), volume, flags).path())


def _volume_xml(new: NewVolume) -> str:
    root = etree.Element("volume")
    etree.SubElement(root, "name").text = new.name
    etree.SubElement(root, "capacity", unit="bytes").text = str(new.capacity_bytes)
    allocated = new.capacity_bytes if new.allocate else 0
    etree.SubElement(root, "allocation", unit="bytes").text = str(allocated)
    target = etree.SubElement(root, "target")
    etree.SubElement(target, "format", type=new.format)
    if new.format == "qcow2":
        if new.compat:
            etree.SubElement(target, "compat").text = new.compat
        if new.cluster_bytes:
            etree.SubElement(target, "clusterSize", unit="B").text = str(new.cluster_bytes)
        if new.features:
            features = etree.SubElement(target, "features")
            for feature in new.features:
                etree.SubElement(features, feature)
    if new.backing_path:
        backing = etree.SubElement(root, "backingStore")
        etree.SubElement(backing, "path").text = new.backing_path
        etree.SubElement(backing, "format", type=new.backing_format)
    return serialize(root)


def delete(connection: Connection, path: str) -> bool:
    """Deletes the volume; False when it was not there."""
    volume = _lookup(connection, path)
    if volume is None:
        return False
    with doing(f"delete {path} on {connection.name}"):
        volume.delete(0)
    return True


def refresh(connection: Connection, pool: str) -> None:
    """Makes libvirt look at a pool's files again; a pool busy with a job is left as it is."""
    try:
        connection.raw.storagePoolLookupByName(pool).refresh(0)
    except libvirt.libvirtError as error:
        if "asynchronous jobs" not in str(error):
            raise translated(error, f"refresh pool {pool} on {connection.name}") from error


def names(connection: Connection, pool: str) -> frozenset[str]:
    """The names of a pool's volumes, freshly looked at; none for a pool that is not active."""
    try:
        found = connection.raw.storagePoolLookupByName(pool)
        if not found.isActive():
            return frozenset()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_POOL:
            return frozenset()
        raise translated(error, f"look into pool {pool} on {connection.name}") from error
    refresh(connection, pool)
    with doing(f"look into pool {pool} on {connection.name}"):
        return frozenset(found.listVolumes())


def listed(connection: Connection) -> tuple[tuple[str, str], ...]:
    """Pool and path of every volume in the host's active pools, freshly looked at."""
    found = []
    with doing(f"list the volumes of {connection.name}"):
        for pool in connection.raw.listAllStoragePools(
            libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE
            | libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_DIR
            | libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_FS
            | libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_NETFS
        ):
            refresh(connection, pool.name())
            # The key of a volume in a directory is its path; asking for the path is one call each.
            found += [(str(pool.name()), str(volume.key())) for volume in pool.listAllVolumes(0)]
    return tuple(found)


def backing_files(connection: Connection) -> frozenset[str]:
    """What the volumes of the host's active pools have as their backing files."""
    found = set()
    with doing(f"read the volumes of {connection.name}"):
        for pool in connection.raw.listAllStoragePools(
            libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE
        ):
            for volume in pool.listAllVolumes(0):
                found.add(text_of(parse(volume.XMLDesc(0)), "backingStore/path"))
    return frozenset(found - {""})


def pool_available(connection: Connection, pool: str) -> int:
    """Bytes left in a pool, freshly looked at."""
    refresh(connection, pool)
    return pool_room(connection, pool)


def pool_room(connection: Connection, pool: str) -> int:
    """Bytes left in a pool as libvirt saw them last (see :func:`refresh`)."""
    with doing(f"look into pool {pool} on {connection.name}"):
        return int(connection.raw.storagePoolLookupByName(pool).info()[3])


def read(connection: Connection, path: str, offset: int, length: int) -> bytes:
    """``length`` bytes of a volume from ``offset``; fewer at its end."""
    volume = need(connection, path)
    with doing(f"read {path} on {connection.name}"):
        stream = connection.raw.newStream(0)
        volume.download(stream, offset, length, 0)
        parts: list[bytes] = []
        while data := stream.recv(min(length, 262_144)):
            parts.append(data)
        stream.finish()
    return b"".join(parts)[:length]


def write(connection: Connection, path: str, offset: int, data: bytes) -> None:
    """Writes ``data`` at ``offset`` of a volume."""
    volume = need(connection, path)
    with doing(f"write {path} on {connection.name}"):
        stream = connection.raw.newStream(0)
        volume.upload(stream, offset, len(data), 0)
        sent = 0
        while sent < len(data):
            sent += stream.send(data[sent : sent + 262_144])
        stream.finish()


def device(connection: Connection, path: str, length_bytes: int) -> Layer:
    """A block device that a VM's own definition names; ``length_bytes`` where no pool has it."""
    volume = find(connection, path)
    length = volume.length_bytes if volume is not None else length_bytes
    return Layer(
        path=path,
        pool=volume.pool if volume is not None else "",
        length_bytes=length,
        allocated_bytes=length,
        header=read_header(b"", length),
        block=True,
    )


def of_pool(connection: Connection, pool: str, name: str) -> tuple[str, bool] | None:
    """Path of a volume by name, and whether it is a block device; None for neither file nor device.

    None also where the pool is not active, or has no such volume.
    """
    try:
        volume = connection.raw.storagePoolLookupByName(pool).storageVolLookupByName(name)
        kind, path = volume.info()[0], str(volume.path())
    except libvirt.libvirtError as error:
        missing = (libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_ERR_NO_STORAGE_VOL)
        if error.get_error_code() in (*missing, libvirt.VIR_ERR_OPERATION_INVALID):
            return None
        raise translated(error, f"look for {pool}/{name} on {connection.name}") from error
    if kind not in (libvirt.VIR_STORAGE_VOL_FILE, libvirt.VIR_STORAGE_VOL_BLOCK):
        return None
    return path, kind == libvirt.VIR_STORAGE_VOL_BLOCK


def _lookup(connection: Connection, path: str) -> Any | None:
    """The volume whose file is really there: what libvirt remembers is checked, then refreshed."""
    volume = _remembered(connection, path)
    if volume is not None:
        return volume
    pool = pool_of(connection, posixpath.dirname(path))
    if pool is None:
        return None
    refresh(connection, pool)
    return _remembered(connection, path)


def _remembered(connection: Connection, path: str) -> Any | None:
    try:
        volume = connection.raw.storageVolLookupByPath(path)
        volume.info()  # fails for a file that has been deleted since the last refresh
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL:
            return None
        raise translated(error, f"look for {path} on {connection.name}") from error
    return volume


def need(connection: Connection, path: str) -> Any:
    """libvirt's own object. Raises :class:`Gone`."""
    volume = _lookup(connection, path)
    if volume is None:
        raise Gone(f"{path} is no volume of {connection.name}", code="VOLUME_NOT_FOUND")
    return volume


def pool_of(connection: Connection, directory: str) -> str | None:
    """The name of the active pool whose directory this is; None when there is none."""
    with doing(f"list the storage pools of {connection.name}"):
        for pool in connection.raw.listAllStoragePools(
            libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE
        ):
            if text_of(parse(pool.XMLDesc(0)), "target/path").rstrip("/") == directory.rstrip("/"):
                return str(pool.name())
    return None


def _facts(connection: Connection, volume: Any) -> VolumeFacts:
    try:
        root = parse(volume.XMLDesc(0))
        pool = str(volume.storagePoolLookupByVolume().name())
    except libvirt.libvirtError as error:
        raise translated(error, f"read a volume of {connection.name}") from error
    target = root.find("target")
    kind = target.find("format") if target is not None else None
    changed = text_of(root, "target/timestamps/ctime")
    return VolumeFacts(
        path=text_of(root, "target/path"),
        pool=pool,
        format=kind.get("type", "") if kind is not None else "",
        capacity_bytes=int(text_of(root, "capacity") or 0),
        allocated_bytes=int(text_of(root, "allocation") or 0),
        length_bytes=int(text_of(root, "physical") or text_of(root, "capacity") or 0),
        stamp=f"{changed} {text_of(root, 'target/timestamps/mtime')}" if changed else "",
        backing_path=text_of(root, "backingStore/path"),
        encrypted=target is not None and target.find("encryption") is not None,
    )


def allocate(connection: Connection, path: str, capacity_bytes: int) -> None:
    """Makes a raw volume take all its space; what it holds stays."""
    volume = need(connection, path)
    with doing(f"take all the space of {path} on {connection.name}"):
        volume.resize(capacity_bytes, libvirt.VIR_STORAGE_VOL_RESIZE_ALLOCATE)


def resize(connection: Connection, path: str, capacity_bytes: int) -> None:
    """Makes a volume larger for its guest; it stays as thin as it was."""
    volume = need(connection, path)
    with doing(f"grow {path} on {connection.name}"):
        volume.resize(capacity_bytes, 0)
