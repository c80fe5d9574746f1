"""What a clone may have other than its source: vCPUs, memory, the network of a NIC.

Each edit takes a definition and gives a new one, or raises :class:`UsageError` and says what in the
definition would no longer fit together. None of them guesses a guest's wishes: a NUMA layout of
several cells, say, is not divided anew. Sources: libvirt's formatdomain page, and the rules that
libvirt 9.0 holds a definition to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import prod

from lxml import etree

from twinship.domxml.document import drop, parse, serialize
from twinship.model.errors import UsageError

KIB = 1024
MIB = 1024 * KIB
MOST_VCPUS = 65535
"""What the schema of a definition has room for; the machine type sets the real limit."""

_DEFAULT_HUGEPAGE_BYTES = 2 * MIB
_PER_VCPU = {"vcpupin": "vcpu", "vcpusched": "vcpus", "cachetune": "vcpus", "memorytune": "vcpus"}
_PARTS_OF_A_SOCKET = ("dies", "clusters", "cores", "threads")
# A NIC that is a device of the host, or shares its memory with a switch, is no plain NIC.
_FIXED_NICS = {"hostdev": "a PCI device", "vhostuser": "a vhost-user NIC", "vdpa": "a vDPA device"}
_PORT_PARTS = ("source", "virtualport", "backend", "portForward", "ip", "route", "script", "target")


class Join(StrEnum):
    """What a NIC is joined to on its host."""

    NETWORK = "network"
    BRIDGE = "bridge"


# A bridge is a device of the host: 15 characters (IFNAMSIZ), of those the schema has for a device.
_NAMES = {
    Join.NETWORK: re.compile(r"[^/\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]{1,200}"),
    Join.BRIDGE: re.compile(r"[A-Za-z0-9_.:-]{1,15}"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NicChoice:
    """A NIC, counted from 0 in the order of the definition, and what it shall be joined to."""

    index: int
    join: Join
    name: str


def with_vcpus(text: str, count: int) -> str:
    """The definition with ``count`` vCPUs, all of them online.

    Without ``current`` and ``<vcpus>``, which say what is offline. A topology keeps its shape: one
    socket gets more or fewer cores, several get more or fewer sockets (an operating system may
    count sockets for its license). A single NUMA cell takes them all.

    Raises :class:`UsageError` (``VCPUS_REFUSED``) when the topology has no place for the number,
    when vCPUs would go that are pinned, or when there are several NUMA cells.
    """
    if not 1 <= count <= MOST_VCPUS:
        raise _refused("VCPUS", f"a VM cannot have {count} vCPUs")
    root = parse(text)
    for element, vcpus in _tuned(root):
        if max(vcpus, default=0) >= count:
            raise _refused(
                "VCPUS",
                f"its <{element}> names vCPU {max(vcpus)}, which would be gone",
                hint="take the pinning out of the definition first",
            )
    _fit_topology(root, count)
    cells = root.findall("cpu/numa/cell")
    if len(cells) > 1:
        raise _refused("VCPUS", f"its vCPUs are divided among {len(cells)} NUMA cells")
    for cell in cells:
        cell.set("cpus", f"0-{count - 1}" if count > 1 else "0")
    vcpu = _child(root, "vcpu")
    vcpu.text = str(count)
    vcpu.attrib.pop("current", "")
    drop(root, "vcpus")
    return serialize(root)


def with_memory(text: str, length_bytes: int) -> str:
    """The definition with this much memory, all of it given to the guest (no balloon held back).

    Rounded up to whole MiB, as libvirt does. A single NUMA cell takes it all.

    Raises :class:`UsageError` (``MEMORY_REFUSED``) when it is more than ``<maxMemory>`` or the hard
    limit of the VM's control group, when it is not in whole huge pages, when there are memory
    devices, whose sizes ``<memory>`` counts in, or several NUMA cells.
    """
    whole = -(-length_bytes // MIB) * MIB
    if whole < MIB:
        raise _refused("MEMORY", "a VM needs at least 1 MiB of memory")
    root = parse(text)
    if root.find("devices/memory") is not None:
        raise _refused("MEMORY", "it has memory devices (DIMMs)", hint="detach them first")
    cells = root.findall("cpu/numa/cell")
    if len(cells) > 1:
        raise _refused("MEMORY", f"its memory is divided among {len(cells)} NUMA cells")
    for path, words in (
        ("maxMemory", "its <maxMemory>"),
        ("memtune/hard_limit", "the hard limit of its <memtune>"),
    ):
        limit = root.find(path)
        if limit is not None and whole > _bytes(limit, limit.text):
            raise _refused("MEMORY", f"{words} is {_bytes(limit, limit.text) // MIB} MiB")
    page = _hugepage_bytes(root)
    if page and whole % page:
        raise _refused("MEMORY", f"it lies in huge pages of {page // MIB} MiB: give a multiple")
    for cell in cells:
        cell.set("unit", "KiB")
        cell.set("memory", str(whole // KIB))
    for element in (_child(root, "memory"), *root.findall("currentMemory")):
        element.text = str(whole // KIB)
        element.set("unit", "KiB")
    return serialize(root)


def with_nic(text: str, choice: NicChoice) -> str:
    """The definition with one NIC joined to another network or bridge; its MAC and model stay.

    What belonged to the old port goes (port group, Open vSwitch's profile, a ``user`` NIC's
    addresses). From bridge to bridge the switch's profile and VLAN stay: it is taken for a switch
    of the same kind. Filters, bandwidth, boot order and the guest's PCI address always stay.

    Raises :class:`UsageError` (``NIC_REFUSED``) when there is no such NIC, when it is a device of
    the host, or when it has a VLAN tag that the new port could not carry.
    """
    root = parse(text)
    nics = root.findall("devices/interface")
    if not 0 <= choice.index < len(nics):
        raise _refused("NIC", f"it has {len(nics)} NICs, none is number {choice.index + 1}")
    if not _NAMES[choice.join].fullmatch(choice.name):
        raise _refused("NIC", f"{choice.name[:60]!r} is no name of a {choice.join.value}")
    nic = nics[choice.index]
    kind = nic.get("type", "")
    if kind in _FIXED_NICS:
        raise _refused("NIC", f"NIC {choice.index + 1} is {_FIXED_NICS[kind]} of its host")
    stays = kind == choice.join.value == Join.BRIDGE
    if nic.find("vlan") is not None and not stays:
        raise _refused("NIC", f"NIC {choice.index + 1} has a VLAN tag of its old network")
    for tag in ("source",) if stays else _PORT_PARTS:
        drop(nic, tag)
    nic.set("type", choice.join.value)
    nic.insert(0, etree.Element("source", attrib={choice.join.value: choice.name}))
    return serialize(root)


def _child(root: etree._Element, tag: str) -> etree._Element:
    found = root.find(tag)
    return found if found is not None else etree.SubElement(root, tag)


def _tuned(root: etree._Element) -> Iterator[tuple[str, set[int]]]:
    for tag, attribute in _PER_VCPU.items():
        for element in root.findall(f"cputune/{tag}"):
            yield tag, _numbers(element.get(attribute, ""))


def _numbers(text: str) -> set[int]:
    """The members of libvirt's sets: ``0-3,^2,7``."""
    found: set[int] = set()
    for part in text.replace(" ", "").split(","):
        first, _, last = part.removeprefix("^").partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            continue
        numbers = range(int(first), min(int(last or first), MOST_VCPUS) + 1)
        found = found.difference(numbers) if part.startswith("^") else found.union(numbers)
    return found


def _fit_topology(root: etree._Element, count: int) -> None:
    topology = root.find("cpu/topology")
    if topology is None:
        return
    single = topology.get("sockets", "1") == "1"
    grows = "cores" if single else "sockets"
    kept = [part for part in _PARTS_OF_A_SOCKET if part != grows]
    fixed = prod(int(topology.get(part, "1")) for part in kept)
    if count % fixed:
        raise _refused(
            "VCPUS",
            f"its CPU topology has its vCPUs in {grows} of {fixed}: {count} is no multiple",
            hint=f"for example {-(-count // fixed) * fixed}",
        )
    topology.set(grows, str(count // fixed))


def _hugepage_bytes(root: etree._Element) -> int:
    """The largest huge page its memory is made of; 0 when it is made of plain pages."""
    if root.find("memoryBacking/hugepages") is None:
        return 0
    pages = root.findall("memoryBacking/hugepages/page")
    return max((_bytes(page, page.get("size")) for page in pages), default=_DEFAULT_HUGEPAGE_BYTES)


def _bytes(element: etree._Element, number: str | None) -> int:
    """A number with the unit of its element; KiB without one (formatdomain, "unit")."""
    unit = element.get("unit", "KiB").lower()
    digits = (number or "").strip()
    if not digits.isdecimal() or unit[:1] not in "bkmgtpe":
        raise _refused("MEMORY", f"its <{element.tag}> cannot be read")
    if unit[0] == "b":
        return int(digits)
    base = 1000 if unit.endswith("b") and not unit.endswith("ib") else 1024
    return int(digits) * int(base ** ("kmgtpe".index(unit[0]) + 1))


def _refused(what: str, why: str, hint: str = "") -> UsageError:
    words = {"VCPUS": "the vCPUs", "MEMORY": "the memory", "NIC": "the network"}[what]
    return UsageError(f"cannot change {words}: {why}", code=f"{what}_REFUSED", hint=hint)
