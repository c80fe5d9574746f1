"""Where a clone comes from and which files it depends on, kept in the definition's metadata.

::

    <twinship:vm xmlns:twinship="urn:twinship:domain:1">
      <twinship:clone of="UUID" name="web" mode="linked">
        <twinship:base path="/…/web.qcow2" length="2228224" changed="1700000000.1" header="5d41…"/>
      </twinship:clone>
    </twinship:vm>
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lxml import etree

from twinship.domxml.document import parse, serialize
from twinship.domxml.rewrite import NAMESPACE, mark_path, new_mark

BASE = f"{{{NAMESPACE}}}base"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A file below a clone's disk, as it was when the clone was made.

    ``changed`` is its modification time as libvirt shows it, ``header`` a digest of its first
    bytes; ``digest`` is the SHA-256 of all, where that was asked for. (Its change time says
    nothing: libvirt itself changes the owner of a file in use.) ``born`` is what ``changed`` was on
    the host the clone was made on, once the file has been carried to another: copies of one file
    have it in common.
    """

    path: str
    length_bytes: int
    changed: str
    header: str
    digest: str = ""
    born: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """A clone's origin: the source's UUID and name, how it was cloned, what it depends on.

    ``template`` and ``version``: of which template it is a clone, if of one.
    """

    of: str
    name: str
    mode: str
    bases: tuple[Base, ...] = ()
    template: str = ""
    version: str = ""


def lineage_of(text: str) -> Lineage | None:
    """The lineage a definition tells of; None for a VM that is no clone of ours."""
    mark = parse(text).find(mark_path("clone"))
    if mark is None:
        return None
    return Lineage(
        of=mark.get("of", ""),
        name=mark.get("name", ""),
        mode=mark.get("mode", ""),
        bases=tuple(base_of(element) for element in mark.findall(BASE)),
        template=mark.get("template", ""),
        version=mark.get("version", ""),
    )


def base_of(element: etree._Element) -> Base:
    """The file an element of a mark tells of."""
    return Base(
        path=element.get("path", ""),
        length_bytes=_number(element.get("length", "")),
        changed=element.get("changed", ""),
        header=element.get("header", ""),
        digest=element.get("digest", ""),
        born=element.get("born", ""),
    )


def base_attributes(base: Base) -> dict[str, str]:
    """The attributes of the element that tells of a file."""
    told = {
        "path": base.path,
        "length": str(base.length_bytes),
        "changed": base.changed,
        "header": base.header,
    }
    more = {"digest": base.digest, "born": base.born}
    return told | {name: value for name, value in more.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kin:
    """A VM of a family of linked clones, with those that stand on it."""

    name: str
    uuid: str
    children: tuple[Kin, ...] = ()


def family(definitions: Iterable[tuple[str, str, str]], uuid: str) -> Kin:
    """The whole tree a VM belongs to, from the base of all, by name, UUID and definition of each.

    A base that is not among them (deleted behind our back) is left out, as is a circle.
    """
    names: dict[str, str] = {}
    parents: dict[str, str] = {}
    for name, own, text in definitions:
        names[own] = name
        lineage = lineage_of(text) if "linked" in text else None
        if lineage is not None and lineage.bases and lineage.of != own:
            parents[own] = lineage.of
    top, seen = uuid, {uuid}
    while (above := parents.get(top, "")) in names and above not in seen:
        top = above
        seen.add(top)

    def grown(own: str, path: frozenset[str]) -> Kin:
        below = [child for child, of in parents.items() if of == own and child not in path]
        below.sort(key=lambda child: names[child])
        children = tuple(grown(child, path | {child}) for child in below)
        return Kin(name=names.get(own, own), uuid=own, children=children)

    return grown(top, frozenset({top}))


def with_bases(text: str, bases: Iterable[Base]) -> str:
    """The definition of a clone of ours, depending on these files and no others."""
    root = parse(text)
    mark = root.find(mark_path("clone"))
    if mark is None:
        return text
    for old in mark.findall(BASE):
        mark.remove(old)
    found = tuple(bases)
    mark.set("mode", "linked" if found else "full")
    for base in found:
        mark.append(new_mark("base", base_attributes(base)))
    return serialize(root)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else -1
