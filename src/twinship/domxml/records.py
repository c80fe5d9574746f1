"""Which files a record of a snapshot or a checkpoint speaks of: disks of then, a saved memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twinship.domxml.document import parse, serialize


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file, and how it is to be read: ``raw`` for one that is only carried."""

    path: str
    format: str = "raw"


def snapshot_files(text: str) -> tuple[NamedFile, ...]:
    """The files of a ``<domainsnapshot>``, each once: tops of disks, and external memory."""
    root = parse(text)
    found: dict[str, NamedFile] = {}
    memory = root.find("memory[@snapshot='external']")
    if memory is not None and memory.get("file"):
        path = memory.get("file", "")
        found[path] = NamedFile(path)
    disks = (
        *root.findall("disks/disk[@snapshot='external']"),
        *(
            disk
            for kind in ("domain", "inactiveDomain")
            for disk in root.findall(f"{kind}/devices/disk[@type='file'][@device='disk']")
            if disk.find("readonly") is None
        ),
    )
    for disk in disks:
        source, driver = disk.find("source"), disk.find("driver")
        path = source.get("file", "") if source is not None else ""
        if path:
            kind = driver.get("type", "raw") if driver is not None else "raw"
            found.setdefault(path, NamedFile(path, kind))
    return tuple(found.values())


def with_files_at(text: str, there: Callable[[str], str]) -> str:
    """The record with its files where ``there`` tells of each path; the same text for none."""
    root = parse(text)
    named = [*root.iterfind(".//disk//source[@file]"), *root.iterfind("memory[@file]")]
    moved = [element for element in named if there(element.get("file", "")) != element.get("file")]
    for element in moved:
        element.set("file", there(element.get("file", "")))
    return serialize(root) if moved else text
