"""That a VM was sealed, what went, and with what it can be undone, kept in its metadata.

::

    <twinship:sealed at="2026-11-24T10:00:00Z" guest="Debian GNU/Linux 12" family="debian"
                     version="12" id="debian" systemd="yes" cloud-init="no">
      <twinship:operation name="logs" paths="12" bytes="52428">/var/log/auth.log
    /var/log/syslog</twinship:operation>
      <twinship:undo target="vda" path="/…/web.qcow2.twinship-undo"/>
      <twinship:disk path="/…/web.qcow2" length="…" changed="…" header="…"/>
    </twinship:sealed>
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lxml import etree

from twinship.domxml.document import parse
from twinship.domxml.lineage import Base, base_attributes, base_of
from twinship.domxml.rewrite import NAMESPACE, mark_path, new_mark, with_mark_element, without_mark

KIND = "sealed"
MOST_PATHS_BYTES = 64 * 1024
"""Longer lists of paths are left out: libvirt's documents have a limit (4 MiB on the wire)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What one operation did. ``listed`` are its paths, printable; empty where left out."""

    name: str
    paths: int
    bytes: int
    listed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """When a VM was sealed, which guest was in it, what was done.

    ``undo``: disk targets and the files that hold what was there before. ``disks``: the disks' own
    files as they were then. ``systemd`` and ``cloud_init``: how its clones can be told their names.
    """

    at: str
    guest: str
    id: str = ""
    version: str = ""
    systemd: bool = False
    cloud_init: bool = False
    done: tuple[Done, ...] = ()
    undo: Mapping[str, str] = field(default_factory=dict)
    disks: tuple[Base, ...] = ()


def sealed_of(text: str) -> Sealed | None:
    """What a definition says of its VM's seal; None for one that was not sealed."""
    mark = parse(text).find(mark_path(KIND))
    if mark is None:
        return None
    return Sealed(
        at=mark.get("at", ""),
        guest=mark.get("guest", ""),
        id=mark.get("id", ""),
        version=mark.get("version", ""),
        systemd=mark.get("systemd") == "yes",
        cloud_init=mark.get("cloud-init") == "yes",
        done=tuple(_done(element) for element in mark.findall(_tag("operation"))),
        undo={
            element.get("target", ""): element.get("path", "")
            for element in mark.findall(_tag("undo"))
        },
        disks=tuple(base_of(element) for element in mark.findall(_tag("disk"))),
    )


def with_sealed(text: str, sealed: Sealed) -> str:
    """The definition of a VM that was sealed."""
    mark = new_mark(
        KIND,
        {
            "at": sealed.at,
            "guest": sealed.guest,
            "id": sealed.id,
            "version": sealed.version,
            "systemd": _word(sealed.systemd),
            "cloud-init": _word(sealed.cloud_init),
        },
    )
    left = MOST_PATHS_BYTES
    for done in sealed.done:
        told = {"name": done.name, "paths": str(done.paths), "bytes": str(done.bytes)}
        element = new_mark("operation", told)
        listed = "\n".join(done.listed)
        left -= len(listed.encode())
        if left > 0:
            element.text = listed
        mark.append(element)
    for target, path in sealed.undo.items():
        mark.append(new_mark("undo", {"target": target, "path": path}))
    for disk in sealed.disks:
        mark.append(new_mark("disk", base_attributes(disk)))
    return with_mark_element(text, mark)


def without_sealed(text: str) -> str:
    """The definition without the mark."""
    return without_mark(text, KIND)


def _done(element: etree._Element) -> Done:
    paths, size = element.get("paths", ""), element.get("bytes", "")
    return Done(
        name=element.get("name", ""),
        paths=int(paths) if paths.isdecimal() else 0,
        bytes=int(size) if size.isdecimal() else 0,
        listed=tuple((element.text or "").split("\n")) if element.text else (),
    )


def _tag(kind: str) -> str:
    return f"{{{NAMESPACE}}}{kind}"


def _word(yes: bool) -> str:
    return "yes" if yes else "no"
