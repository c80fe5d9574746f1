"""How the draws of :mod:`tests.schema_domains` are steered to what libvirt may take.

Left out is what no QEMU guest on a PC can be, and what nearly every draw gets wrong: addresses that
clash, CPU models, tuning. It names no identity.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from lxml import etree


class Draw(Protocol):
    """The document being drawn, as the makers of values see it."""

    def number(self) -> int:
        """Another one each time."""

    def one_of(self, values: Iterable[str]) -> str:
        """A value, drawn."""


@dataclass(slots=True)
class Parts:
    """What a pattern adds to the element around it."""

    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    children: list[etree._Element] = field(default_factory=list)

    def add(self, other: Parts) -> Parts:
        """These, and the other's after them."""
        self.attributes |= other.attributes
        self.text += other.text
        self.children += other.children
        return self


def agree(root: etree._Element) -> None:
    """What the schema does not say and libvirt wants: parts that have to fit one another."""
    for source in root.iter("source"):
        above = source.getparent()
        if above is None or not _is_chardev(above):
            continue
        for key in set(source.attrib) - set(ENDS[above.get("type", "")]):
            del source.attrib[key]
    for entry in root.findall("sysinfo/system/entry[@name='uuid']"):
        entry.text = root.findtext("uuid", "5eed0000-0000-4000-8000-0000000000ff")
    for entry in root.findall("sysinfo/bios/entry[@name='date']"):
        entry.text = "01/02/2023"
    for empty in root.findall("resource"):
        if len(empty) == 0:
            root.remove(empty)
    os = root.find("os")
    if os is not None and os.find("nvram") is not None and os.find("loader") is None:
        etree.SubElement(os, "loader", readonly="yes", type="pflash").text = "/srv/firmware/CODE.fd"
    for shmem in root.findall("devices/shmem[server]"):
        _replace(shmem, "<model type='ivshmem-doorbell'/>")
    for memory in root.findall("devices/memory[source]"):
        if memory.get("model") != "dimm" and memory.find("source/path") is None:
            _replace(memory, f"<source><path>/srv/files/pmem-{memory.get('model')}</path></source>")
    for node in root.findall("devices/memory[@model='virtio-pmem']/target/node"):
        node.getparent().remove(node)  # type: ignore[union-attr]
    for nic in root.findall("devices/interface"):
        port = nic.find("virtualport")
        if port is not None and port.get("type") is None and nic.get("type") != "network":
            nic.remove(port)
    for nic in root.findall("devices/interface[@type='vhostuser']"):
        _replace(nic, "<model type='virtio'/>")
    for disk in root.findall("devices/disk"):
        kind, number = disk.get("device", "disk"), disk.getparent().index(disk)  # type: ignore[union-attr]
        if kind == "floppy":
            _replace(disk, "<target dev='fda' bus='fdc'/>")
        elif kind in ("lun", "cdrom"):
            _replace(disk, f"<target dev='sd{string.ascii_lowercase[number % 26]}' bus='scsi'/>")
    devices = root.find("devices")
    spice = ("spicevmc", "spiceport")
    if devices is not None and any(device.get("type") in spice for device in devices):
        etree.SubElement(devices, "graphics", type="spice", autoport="yes")


def _replace(element: etree._Element, xml: str) -> None:
    """Puts a child in the place of those of its name."""
    child = etree.fromstring(xml)
    for old in element.findall(str(child.tag)):
        element.remove(old)
    element.append(child)


def _is_chardev(element: etree._Element) -> bool:
    return element.tag in CHARDEVS or element.get("model") == "egd"


Maker = Callable[[Draw], str]


def _either_of(*values: str) -> Maker:
    return lambda walk: walk.one_of(values)


def _numbered(form: str) -> Maker:
    return lambda walk: form.format(walk.number())


def _uuid(walk: Draw) -> str:
    return f"5eed0000-0000-4000-8000-{walk.number():012x}"


def _disk_target(walk: Draw) -> Parts:
    letter = string.ascii_lowercase[walk.number() % 26]
    prefix, bus = walk.one_of(("vd virtio", "sd scsi", "sd usb", "vd virtio")).split()
    return Parts(attributes={"dev": f"{prefix}{letter}", "bus": bus})


def _type_of_os(walk: Draw) -> Parts:
    machine = walk.one_of(("pc", "q35", "pc-q35-7.2"))
    return Parts(attributes={"arch": "x86_64", "machine": machine}, text="hvm")


def _loader(walk: Draw) -> Parts:
    path = f"/srv/firmware/{walk.number()}.fd"
    return Parts(attributes={"readonly": "yes", "type": "pflash"}, text=path)


def _elements(*texts: str) -> Parts:
    return Parts(children=[etree.fromstring(text) for text in texts])


USUAL_RATE = 0.35
COMMON_RATE = 0.6

SELDOM = (
    *("diskSourceDir", "diskSourceNvme", "diskSourceVhostUser", "diskSourceNetwork"),
    *("diskSourceVolume", "redirfilter", "hub", "lease"),
)
"""Alternatives that the others go before, most times."""

LEFT_OUT = {
    *("address", "alias", "acpi", "clock", "events", "pm", "perf", "idmap"),
    *("bootloader", "lxcsharens", "bhyvecmdline", "xencmdline", "keywrap"),
    *("vmwaredatacenterpath", "qemucapabilities", "qemudeprecation", "qemuoverride"),
    *("deviceBoot", "customElement", "driverIOThread", "diskMirror"),
    *("diskBackingChain", "nvram", "controller", "blkiotune", "cputune", "memtune"),
    *("numatune", "schedparam", "hub", "osbootdev", "diskIoTune", "geometry"),
    *("smbios", "virtioOptions", "coalesce", "iommu", "codec", "rom"),
}
"""Definitions that are left empty; none stands where something is required."""

ELSEWHERE = {"osxen", "osexe", "vmwarePath", "xenTarget", "hostdevcaps"}
"""Alternatives of other hypervisors."""

NEVER = {
    "domain/@type": (
        *("kqemu", "kvm", "xen", "lxc", "uml", "openvz", "test", "vmware", "hyperv"),
        *("vbox", "phyp", "vz", "bhyve", "hvf"),
    ),
    "domain/on_reboot": ("rename-restart", "preserve"),
    "domain/on_poweroff": ("rename-restart", "preserve"),
    "domain/on_crash": ("rename-restart",),
    "graphics/@type": ("rdp", "desktop"),
    "interface/@type": ("vds", "internal"),
    "filesystem/@type": ("file", "block", "bind", "template", "ram"),
    "tpm/@model": ("tpm-spapr", "spapr-tpm-proxy"),
    "hostdev/@model": ("vfio-ccw", "vfio-ap"),
    "panic/@model": ("pseries", "s390"),
    "input/@bus": ("xen",),
    "video/model/@type": ("xen", "vbox", "gop", "vmvga"),
    "shmem/model/@type": ("ivshmem", "ivshmem-doorbell"),
    "launchSecurity/@type": ("s390-pv",),
    "driver/@name": ("xen", "kvm"),
    "reservations/source/@mode": ("server",),
    "target/@type": (
        *("sclp", "sclplm", "xen", "uml", "lxc", "openvz", "spapr-vio-serial", "system-serial"),
        *("sclp-serial", "isa-debug"),
    ),
    **dict.fromkeys(
        ("serial/@type", "parallel/@type", "console/@type"),
        ("spicevmc", "nmdm", "qemu-vdagent", "vc", "dbus"),
    ),
    "channel/@type": ("nmdm", "vc", "stdio"),
    "redirdev/@type": ("nmdm", "vc", "stdio", "dbus", "qemu-vdagent", "spiceport"),
    "smartcard/@type": ("nmdm", "vc", "stdio", "dbus", "qemu-vdagent", "spiceport"),
    "backend/@type": ("passt", "nmdm", "vc", "stdio", "dbus", "qemu-vdagent", "spicevmc"),
    "nvram/@type": ("vhostuser", "dir", "nvme", "volume"),
    "audio/@type": ("spice", "dbus", "coreaudio"),
    "memory/@model": ("sgx-epc", "virtio-mem"),
    "watchdog/@model": ("diag288",),
    "memballoon/@model": ("xen", "none"),
    "disk/target/@bus": ("xen", "uml", "sd"),
}
"""What only other hypervisors and other machines have."""

FIXED: dict[str, Callable[[Draw], Parts]] = {
    "disk/target": _disk_target,
    "os/type": _type_of_os,
    "domain/memory": lambda _: Parts(attributes={"unit": "MiB"}, text="64"),
    "domain/vcpu": lambda _: Parts(text="1"),
    "domain/maxMemory": lambda _: Parts(attributes={"unit": "GiB", "slots": "16"}, text="4"),
    "domain/features": lambda _: _elements("<acpi/>"),
    "domain/cpu": lambda _: _elements(
        "<numa><cell id='0' cpus='0' memory='64' unit='MiB'/></numa>"
    ),
    "memory/target": lambda _: _elements("<size unit='MiB'>128</size>", "<node>0</node>"),
    "os/loader": _loader,
}

RATES = {
    **dict.fromkeys(
        (
            *("devices", "memory", "vcpu", "maxMemory", "features", "guestcpu", "seclabel/@model"),
            *("reconnect/@timeout", "reservations/@managed", "acceleration/@accel2d"),
            *("acceleration/@accel3d", "backend/source", "source/@type"),
            *("source/@path", "source/@service", "source/@channel", "memorydev-source"),
            *("nvram/source", "video/model", "interface/source", "shmem/model"),
        ),
        1.0,
    ),
    **dict.fromkeys(("source/@file", "disk/source"), 0.95),
    **dict.fromkeys(("source/@host", "uuid", "cid", "cid/@address"), 0.9),
    **dict.fromkeys(("mac", "source/@mode"), 0.8),
    **dict.fromkeys(("genid", "vsock", "log", "virtualport", "virtualPortProfile"), 0.5),
    **dict.fromkeys(
        (
            *("watchdog", "qemucmdline", "readonly", "shareable", "vlan", "diskDriver", "link"),
            *("domain/seclabel", "loader"),
        ),
        0.2,
    ),
    **dict.fromkeys(
        (
            *("encryption", "transient", "startupPolicy", "mtu", "driver"),
            *("backend", "script", "downscript", "tune", "portOptions", "bandwidth", "memory/uuid"),
            *("wwn", "storageStartupPolicy", "filterref", "reconnect", "snapshot", "protocol"),
            *("interface/guest", "rng-rate", "slices", "privateDataStorageSource"),
        ),
        0.05,
    ),
    **dict.fromkeys(
        (
            *("currentMemory", "memoryBacking", "vcpus", "iothreads", "iothreadids"),
            *("defaultiothread", "os/@firmware", "os/firmware", "emulator", "diskAuth", "bios"),
            *("sound/audio", "graphics/audio", "settings", "msi", "@peer", "@family"),
            *("active_pcr_banks", "target/model", "disk/@model", "backenddomain", "teaming"),
            *(
                "hostdev/source/@startupPolicy",
                "@fmode",
                "@dmode",
                "sgIO",
                "rawIO",
                "throttlefilters",
            ),
        ),
        0.0,
    ),
    "interface/target": 0.6,
    "launchSecurity": 0.01,
}

CHARDEVS = ("serial", "parallel", "console", "channel", "smartcard", "redirdev")

ENDS = {
    "file": ("path", "append"),
    "unix": ("path", "mode"),
    "tcp": ("mode", "host", "service", "tls"),
    "udp": ("mode", "host", "service"),
    "dev": ("path",),
    "pipe": ("path",),
    "pty": ("path",),
    "nmdm": ("master", "slave"),
    "spiceport": ("channel",),
    "dbus": ("channel",),
    **dict.fromkeys(("null", "stdio", "vc", "spicevmc", "qemu-vdagent"), ()),
}
"""What the source of a character device says, by type; the schema allows everything in each."""

COUNTS = {
    "devices/": (1, 1, 2, 2, 3, 4, 6),
    "source": (1,) * 15 + (2,),
    "listen": (0, 1),
    "devSeclabel": (0,) * 8 + (1,),
    "seclabel": (0, 0, 0, 1),
    "sysinfo": (0, 1),
    "panic": (0, 0, 1),
    "table": (0, 1),
    **dict.fromkeys(("ip", "route", "portForward"), (0,) * 12 + (1,)),
}

PLACES: dict[str, Maker] = {
    "domain/name": lambda _: "web",
    "source/@mode": _either_of("bind", "connect"),
    "interface/source/@mode": _either_of("vepa", "bridge", "private", "passthrough"),
    "source/@path": _numbered("/srv/sockets/{}-web.sock"),
    "source/@host": lambda _: "127.0.0.1",
    "source/@service": lambda walk: str(5000 + walk.number()),
    "source/@port": lambda walk: str(5000 + walk.number()),
    "local/@port": lambda walk: str(5000 + walk.number()),
    "range/@start": lambda walk: str(5000 + walk.number()),
    "source/@channel": _numbered("org.example.{}"),
    "source/@master": _numbered("/dev/nmdm{}A"),
    "source/@slave": _numbered("/dev/nmdm{}B"),
    "target/@name": _numbered("org.example.{}"),
    "target/@dir": _numbered("share{}"),
    "target/@address": lambda _: "10.0.2.1",
    "target/@port": lambda walk: str(4000 + walk.number()),
    "entry/@name": _numbered("opt/org.example/{}"),
    "entry/@file": _numbered("/srv/fwcfg/{}"),
    "arg/@value": _numbered("/srv/argument/{}"),
    "env/@name": _numbered("NAME{}"),
    "env/@value": _numbered("value{}"),
    "graphics/@keymap": lambda _: "en-us",
    "graphics/@passwdValidTo": lambda _: "2040-01-01T00:00:00",
    "graphics/@port": lambda walk: str(5900 + walk.number()),
    "graphics/@tlsPort": lambda walk: str(5900 + walk.number()),
    "graphics/@websocket": lambda walk: str(5900 + walk.number()),
    "graphics/@address": _numbered("unix:path=/srv/bus/{}"),
    "fibrechannel/@appid": _numbered("app{}"),
    "parameter/@name": _either_of("IP", "MAC", "PROJMASK"),
    "parameter/@value": lambda walk: f"10.1.0.{walk.number() % 250}",
    "shmem/@name": _numbered("shared{}"),
    "seclabel/@model": lambda walk: ("selinux", "apparmor", "dac")[walk.number() % 3],
    "policy": lambda _: "0x0001",
    "launchSecurity/policy": lambda _: "0x0001",
}

NAMED: dict[str, Maker] = {
    "UUID": _uuid,
    "absFilePath": _numbered("/srv/files/{}-web.img"),
    "absDirPath": _numbered("/srv/directories/{}"),
    "filePath": _numbered("/srv/files/{}-web.img"),
    "dirPath": _numbered("/srv/directories/{}"),
    "uniMacAddr": lambda walk: f"52:54:00:5e:ed:{walk.number() % 256:02x}",
    "macAddr": lambda walk: f"52:54:00:5e:ee:{walk.number() % 256:02x}",
    "PortNumber": lambda walk: str(5900 + walk.number()),
    "port": lambda walk: str(5000 + walk.number()),
    "deviceName": _numbered("dev{}"),
    "objectName": _numbered("name{}"),
    "objectNameWithSlash": _numbered("name{}"),
    "genericName": _numbered("name{}"),
    "dnsName": _numbered("host{}.example.org"),
    "zoneName": _numbered("zone{}"),
    "ipv4Addr": lambda walk: f"127.1.0.{walk.number() % 250}",
    "ipv6Addr": lambda walk: f"fd00::{walk.number():x}",
    "ipv4Prefix": lambda _: "24",
    "ipv6Prefix": lambda _: "64",
    "volName": _numbered("volume{}.qcow2"),
    "wwn": lambda walk: f"5000c500{walk.number():08x}",
    "diskSerial": _numbered("SERIAL{}"),
    "pciDomain": lambda _: "0x0000",
    "pciBus": lambda walk: f"0x{walk.number() % 256:02x}",
    "pciSlot": _either_of("0x00", "0x1f"),
    "pciFunc": _either_of("0x0", "0x7"),
    "usbId": lambda walk: f"0x{walk.number():04x}",
    "usbAddr": lambda walk: str(1 + walk.number() % 100),
    "usbPort": lambda walk: str(1 + walk.number() % 10),
    "uint8": lambda walk: str(1 + walk.number() % 200),
    "uint16": lambda walk: str(walk.number()),
    "uint24": lambda walk: str(walk.number()),
    "uint32": lambda walk: str(walk.number()),
    "unit": _either_of("KiB", "MiB"),
    "hexuint": lambda _: "0x1",
    "positiveInteger": _either_of("1", "2", "8"),
    "unsignedInt": lambda walk: str(3 + walk.number()),
    "unsignedLong": _either_of("1024", "8192", "65536"),
    "unsignedShort": _either_of("1400", "1500"),
    "speed": _either_of("1000", "2000"),
    "BurstSize": _either_of("1000", "2000"),
    "cpuset": _either_of("0", "0-1"),
    "virtualPortProfileID": _numbered("profile{}"),
    "sysinfo-value": _numbered("value{}"),
    "dbusAddr": _numbered("unix:path=/srv/bus/{}"),
    "duid": lambda _: "0:1",
    "aliasName": _numbered("ua-{}"),
    "createMode": lambda _: "0755",
    "octalMode": lambda _: "0755",
    "diskTargetDev": _numbered("vd{}"),
    "bridgeMode": _either_of("vepa", "bridge", "private", "passthrough"),
    "timeDelta": lambda _: "0",
    "description": lambda _: "Serves the web.",
    "filterref-node-attributes": _either_of("clean-traffic", "no-mac-spoofing"),
    "interface-bridge-attributes": _numbered("br{}"),
    "driveUnit": lambda _: "0",
    "usbVersion": lambda _: "1.10",
    "usbClass": lambda _: "0x03",
}

TYPED: dict[str, Maker] = {
    "text": _numbered("text{}"),
    "string": _numbered("text{}"),
    "integer": _either_of("1", "2"),
    "int": _either_of("1", "2"),
    "long": _either_of("1", "2"),
    "short": _either_of("1", "2"),
    "unsignedInt": _either_of("1", "2"),
    "unsignedLong": _either_of("1024", "8192"),
    "positiveInteger": _either_of("1", "2"),
    "dateTime": lambda _: "2040-01-01T00:00:00",
    "NCName": _numbered("name{}"),
}
