"""Rewrites that make a definition fit another host, as a table: what ``--fix`` does; pure.

None of them changes what a running guest sees, but those of ``OFFLINE_ONLY``.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lxml import etree

from twinship.domxml.document import parse, serialize


class Refit(StrEnum):
    """What is rewritten."""

    EMULATOR = "emulator"
    MACHINE = "machine"
    CPU = "cpu"
    NETWORK = "network"
    BRIDGE = "bridge"
    EJECT = "eject"
    LABEL = "label"
    LISTEN = "listen"
    PORT = "port"
    DIRECTORY = "directory"
    LOADER = "loader"


OFFLINE_ONLY = frozenset({Refit.MACHINE, Refit.CPU})
"""The guest sees these: they are for a VM that boots on the target."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One rewrite: what was there, what shall be there instead."""

    kind: Refit
    old: str
    new: str

    def as_dict(self) -> dict[str, str]:
        """For a spec."""
        return {"kind": self.kind.value, "old": self.old, "new": self.new}


def rewrite_from(document: Mapping[str, Any]) -> Rewrite:
    """The rewrite a spec has."""
    return Rewrite(Refit(document["kind"]), document["old"], document["new"])


def refitted(text: str, rewrites: Iterable[Rewrite]) -> str:
    """The definition with these rewrites; the very same text for none."""
    wanted = tuple(rewrites)
    if not wanted:
        return text
    root = parse(text)
    for rewrite in wanted:
        _WAYS[rewrite.kind](root, rewrite.old, rewrite.new)
    return serialize(root)


Way = Callable[[etree._Element, str, str], None]
_WAYS: dict[Refit, Way] = {}


def _way(kind: Refit) -> Callable[[Way], Way]:
    def add(way: Way) -> Way:
        _WAYS[kind] = way
        return way

    return add


@_way(Refit.EMULATOR)
def _emulator(root: etree._Element, _old: str, new: str) -> None:
    element = root.find("devices/emulator")
    if element is not None:
        element.text = new


@_way(Refit.MACHINE)
def _machine(root: etree._Element, _old: str, new: str) -> None:
    element = root.find("os/type")
    if element is not None:
        element.set("machine", new)


@_way(Refit.CPU)
def _cpu(root: etree._Element, _old: str, new: str) -> None:
    """The model and features change; topology, NUMA cells and caches are the guest's own."""
    fresh, old = parse(new), root.find("cpu")
    if old is None:
        return
    for tag in ("topology", "numa", "cache", "maxphysaddr"):
        for kept in old.findall(tag):
            fresh.append(kept)
    root.replace(old, fresh)


def _joined(root: etree._Element, kinds: tuple[str, ...], old: str) -> Iterable[etree._Element]:
    for nic in root.iterfind("devices/interface"):
        source = nic.find("source")
        if nic.get("type") not in kinds or source is None:
            continue
        if old in (source.get("network"), source.get("bridge"), source.get("dev")):
            yield nic


@_way(Refit.NETWORK)
def _network(root: etree._Element, old: str, new: str) -> None:
    for nic in _joined(root, ("network", "bridge", "direct"), old):
        _join(nic, "network", {"network": new})


@_way(Refit.BRIDGE)
def _bridge(root: etree._Element, old: str, new: str) -> None:
    for nic in _joined(root, ("network", "bridge"), old):
        _join(nic, "bridge", {"bridge": new})
    for nic in _joined(root, ("direct",), old):
        source = nic.find("source")
        if source is not None:
            source.set("dev", new)


def _join(nic: etree._Element, kind: str, where: Mapping[str, str]) -> None:
    source = nic.find("source")
    if source is None:
        return
    nic.set("type", kind)
    for name in list(source.attrib):
        del source.attrib[name]
    for name, value in where.items():
        source.set(name, value)
    for child in list(source):
        source.remove(child)


@_way(Refit.EJECT)
def _eject(root: etree._Element, old: str, _new: str) -> None:
    for disk in root.iterfind("devices/disk"):
        target, source = disk.find("target"), disk.find("source")
        if target is not None and target.get("dev") == old and source is not None:
            disk.remove(source)
            disk.set("type", "file")
            for chain in disk.findall("backingStore"):
                disk.remove(chain)


@_way(Refit.LABEL)
def _label(root: etree._Element, old: str, _new: str) -> None:
    for element in root.findall("seclabel"):
        if element.get("model") == old:
            root.remove(element)
    for source in root.iterfind("devices/disk/source"):
        for element in source.findall("seclabel"):
            if element.get("model", old) == old:
                source.remove(element)


@_way(Refit.LISTEN)
def _listen(root: etree._Element, old: str, new: str) -> None:
    for graphics in root.iterfind("devices/graphics"):
        if graphics.get("listen") == old:
            graphics.set("listen", new)
        for listen in graphics.iterfind("listen[@type='address']"):
            if listen.get("address") == old:
                listen.set("address", new)


@_way(Refit.PORT)
def _port(root: etree._Element, old: str, _new: str) -> None:
    for graphics in root.iterfind("devices/graphics"):
        if graphics.get("port") == old:
            graphics.set("port", "-1")
            graphics.set("autoport", "yes")


@_way(Refit.DIRECTORY)
def _directory(root: etree._Element, old: str, new: str) -> None:
    """Disks in one directory lie in another there; what they are called stays."""
    for source in root.iterfind("devices/disk//source"):
        path = source.get("file", "")
        if path and posixpath.dirname(path) == old:
            source.set("file", posixpath.join(new, posixpath.basename(path)))


@_way(Refit.LOADER)
def _loader(root: etree._Element, _old: str, new: str) -> None:
    element = root.find("os/loader")
    if element is not None:
        element.text = new
