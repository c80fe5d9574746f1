"""What a domain XML says: disks, machine, CPU, networks, and what ties a VM to its host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from twinship.domxml.document import parse, text_of
from twinship.model.vm import Disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """A network interface: what it is joined to on the host (network, bridge, device).

    ``port_type`` is that of its virtual port (``openvswitch``), ``mtu`` 0 the network's own.
    """

    mac: str
    kind: str
    source: str
    portgroup: str = ""
    port_type: str = ""
    mtu: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainSummary:
    """The parts of a domain XML that planning asks about.

    ``tied`` is what a running VM cannot take along, each with whether that is certain.
    ``security_labels`` are model and type (``static``, ``dynamic``) of those a host may not know.
    """

    name: str
    uuid: str
    domain_type: str
    arch: str
    machine: str
    emulator: str
    memory_bytes: int
    vcpus: int
    cpu_mode: str
    cpu_xml: str
    nics: tuple[Nic, ...]
    hostdevs: tuple[str, ...]
    tied: tuple[tuple[str, bool], ...]
    nvram: str
    nvram_template: str
    loader: str
    tpm: str
    tpm_version: str
    security_labels: tuple[tuple[str, str], ...]
    agent_channel: bool
    hugepages: bool
    fixed_ports: tuple[int, ...]


_UNITS = {"b": 1, "bytes": 1, "KB": 10**3, "k": 1024, "KiB": 1024, "MB": 10**6, "M": 1024**2}
_UNITS |= {"MiB": 1024**2, "GB": 10**9, "G": 1024**3, "GiB": 1024**3, "TB": 10**12}
_UNITS |= {"T": 1024**4, "TiB": 1024**4}

# What a VM cannot take with it while it runs: path in the XML, the words for it, and whether it is
# refused for certain. Source: libvirt's qemuMigrationSrcIsAllowed (9.0 to 11); of the others QEMU
# itself says when it is asked (9p while it is mounted, vDPA by its device).
_TIED = (
    ("devices/filesystem/driver[@type='virtiofs']", "a virtiofs directory", True),
    ("devices/shmem", "shared memory (shmem)", True),
    ("devices/disk/transient", "a transient disk", True),
    ("launchSecurity", "launch security (SEV, TDX)", True),
    ("devices/filesystem", "a directory of its host (9p), which must not be mounted", False),
    ("devices/interface[@type='vhostuser']", "a vhost-user interface, whose switch", False),
    ("devices/interface[@type='vdpa']", "a vDPA interface, whose device", False),
    ("devices/interface[@type='user']", "a user-mode interface, whose connections end", False),
)


def summary(text: str) -> DomainSummary:
    """Reads ``text`` (a whole ``<domain>``); missing parts are empty, never an error."""
    root = parse(text)
    os_type = root.find("os/type")
    cpu = root.find("cpu")
    return DomainSummary(
        name=text_of(root, "name"),
        uuid=text_of(root, "uuid"),
        domain_type=root.get("type", ""),
        arch=os_type.get("arch", "") if os_type is not None else "",
        machine=os_type.get("machine", "") if os_type is not None else "",
        emulator=text_of(root, "devices/emulator"),
        memory_bytes=bytes_of(root.find("memory")),
        vcpus=int(text_of(root, "vcpu") or "1"),
        cpu_mode=cpu.get("mode", "custom") if cpu is not None else "",
        cpu_xml=etree.tostring(cpu, encoding="unicode") if cpu is not None else "",
        nics=tuple(_nic(nic) for nic in root.findall("devices/interface")),
        hostdevs=tuple(_hostdev(dev) for dev in root.findall("devices/hostdev"))
        + tuple("SR-IOV interface" for _ in root.findall("devices/interface[@type='hostdev']")),
        tied=tuple(_tied(root)),
        nvram=_nvram(root),
        nvram_template=_attribute(root, "os/nvram", "template"),
        loader=text_of(root, "os/loader"),
        tpm=_tpm(root),
        tpm_version=_attribute(root, "devices/tpm/backend", "version"),
        security_labels=tuple(
            (label.get("model", ""), label.get("type", ""))
            for label in root.findall("seclabel")
            if label.get("model", "none") not in ("none", "dac")
        ),
        agent_channel=root.find("devices/channel/target[@name='org.qemu.guest_agent.0']")
        is not None,
        hugepages=root.find("memoryBacking/hugepages") is not None,
        fixed_ports=tuple(
            int(graphics.get("port", "-1"))
            for graphics in root.findall("devices/graphics")
            if graphics.get("autoport") != "yes" and int(graphics.get("port", "-1")) > 0
        ),
    )


def disks(text: str) -> tuple[Disk, ...]:
    """The disks of a domain XML in its order, without their chains."""
    return tuple(_disk(element) for element in parse(text).findall("devices/disk"))


def _disk(element: etree._Element) -> Disk:
    source, driver, target = (element.find(tag) for tag in ("source", "driver", "target"))
    kind = element.get("type", "file")
    path = ""
    if source is not None:
        keys = {"file": "file", "block": "dev", "volume": "volume", "network": "name", "dir": "dir"}
        path = source.get(keys.get(kind, "file"), "")
        if kind == "volume":
            path = f"{source.get('pool', '')}/{path}"
    return Disk(
        target=target.get("dev", "") if target is not None else "",
        device=element.get("device", "disk"),
        source_type="none" if kind == "file" and not path else kind,
        path=path,
        format=driver.get("type", "") if driver is not None else "",
        bus=target.get("bus", "") if target is not None else "",
        cache=driver.get("cache", "") if driver is not None else "",
        readonly=element.find("readonly") is not None,
        shareable=element.find("shareable") is not None,
        encrypted=element.find("encryption") is not None
        or (source is not None and source.find("encryption") is not None),
        transient=element.find("transient") is not None,
        protocol=source.get("protocol", "") if source is not None and kind == "network" else "",
    )


def _nic(element: etree._Element) -> Nic:
    """A running VM's interface to a network over a bridge shows as one to that bridge."""
    source, mac = element.find("source"), element.find("mac")
    name, kind = "", element.get("type", "")
    if source is not None:
        name = source.get("network") or source.get("bridge") or source.get("dev") or ""
        kind = "network" if source.get("network") else kind
    return Nic(
        mac=mac.get("address", "") if mac is not None else "",
        kind=kind,
        source=name,
        portgroup=source.get("portgroup", "") if source is not None else "",
        port_type=_attribute(element, "virtualport", "type"),
        mtu=int(size) if (size := _attribute(element, "mtu", "size")).isdigit() else 0,
    )


def _hostdev(element: etree._Element) -> str:
    kind = element.get("type", "")
    return {"pci": "PCI device", "mdev": "mediated device", "usb": "USB device"}.get(
        kind, f"{kind or 'host'} device"
    )


def _attribute(root: etree._Element, path: str, name: str) -> str:
    found = root.find(path)
    return found.get(name, "") if found is not None else ""


def _tied(root: etree._Element) -> Iterator[tuple[str, bool]]:
    seen: list[etree._Element] = []
    for path, words, certain in _TIED:
        for element in root.iterfind(path):
            holder = element.getparent() if path.endswith("]") and "driver" in path else element
            if holder in seen or (element.tag == "shmem" and element.get("role") == "master"):
                continue
            seen.append(element if holder is None else holder)
            yield words, certain


def _nvram(root: etree._Element) -> str:
    nvram = root.find("os/nvram")
    if nvram is None:
        return ""
    source = nvram.find("source")
    if source is not None:
        return source.get("file", "")
    return (nvram.text or "").strip()


def _tpm(root: etree._Element) -> str:
    backend = root.find("devices/tpm/backend")
    return backend.get("type", "") if backend is not None else ""


def bytes_of(element: etree._Element | None, attribute: str = "") -> int:
    """An amount of memory: the element's text or attribute, in its unit (KiB); 0 for none."""
    if element is None:
        return 0
    text = (element.get(attribute, "") if attribute else element.text or "").strip()
    return int(text) * _UNITS.get(element.get("unit", "KiB"), 1024) if text.isdigit() else 0
