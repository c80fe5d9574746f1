"""Many domain definitions, what virt-clone prints of them, and how ours may differ from it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from lxml import etree

from twinship.domxml import read
from twinship.domxml.document import parse
from twinship.virtclone import order
from twinship.virtclone.naming import clone_name
from twinship.virtclone.options import parse as parse_options

UUID = "aaaaaaaa-0000-4000-8000-000000000001"
SOURCE_UUID = "11111111-2222-4333-8444-555555555555"

DIFFERENCES: dict[str, str] = {
    r"genid": "virt-clone keeps it: the guest does not learn that it is a copy",
    r"sysinfo/system/entry": "the SMBIOS UUID has to be the VM's",
    r"devices/interface/target/@dev": "virt-clone breaks one with managed='no'",
    r"devices/interface/virtualport/parameters/@interfaceid": "one port id on a switch twice",
    r"devices/vsock/cid/@(auto|address)": "one context id for two guests",
    r"devices/graphics/@(tlsPort|websocket)": "one port for two QEMUs",
    r"devices/graphics/@autoport": "libvirt chooses the port: said, not left out",
    r"devices/graphics/(listen/)?@socket": "one socket for two QEMUs",
    r"devices/(serial|console|parallel)/source/@path": "one socket or log for two QEMUs",
    r"devices/(serial|console|parallel|channel)/log/@file": "one log for two QEMUs",
    r"devices/channel/source(/@(path|mode))?": "libvirt makes a channel's socket from the VM's id",
    r"os/nvram/source/@file": "virt-clone leaves the source's file there",
    r"seclabel(/.*)?": "a dynamic label is of one run",
    r"devices/disk/backingStore(/.*)?": "the chain of the old file is not the new one's",
    r"devices/disk/source/@startupPolicy": "it excuses the old file when that is not there",
}
"""Paths at which ours may differ from virt-clone's, and why. All else has to be equal."""

_DISKS = {
    "raw": "<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
    "<source file='{d}/disk.img'/><target dev='vda' bus='virtio'/></disk>",
    "named like the vm": "<disk type='file' device='disk'><driver name='qemu' type='qcow2' "
    "cache='none' io='native' discard='unmap'/><source file='{d}/web.qcow2'/>"
    "<target dev='vdb' bus='virtio'/><serial>WEB-1</serial><wwn>5000c50015ea71aa</wwn>"
    "<boot order='1'/></disk>",
    "without driver": "<disk type='file' device='disk'><source file='{d}/plain'/>"
    "<target dev='vdc' bus='virtio'/></disk>",
    "readonly": "<disk type='file' device='disk'><source file='{d}/disk.img'/>"
    "<target dev='sda' bus='sata'/><readonly/></disk>",
    "shareable": "<disk type='file' device='disk'><source file='{d}/disk.img'/>"
    "<target dev='sdb' bus='scsi'/><shareable/></disk>",
    "transient": "<disk type='file' device='disk'><source file='{d}/tmp.img'/>"
    "<target dev='vdd' bus='virtio'/><transient/></disk>",
    "chain": "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
    "<source file='{d}/top.qcow2'/><backingStore type='file'><format type='qcow2'/>"
    "<source file='{d}/base.qcow2'/><backingStore/></backingStore><target dev='vdh'/></disk>",
    "shared backing": "<disk type='file' device='disk'><source file='{d}/tmp.img'/>"
    "<target dev='vde' bus='virtio'/><transient shareBacking='yes'/></disk>",
    "cdrom": "<disk type='file' device='cdrom'><source file='{d}/cd.iso'/>"
    "<target dev='hdc' bus='ide'/><readonly/></disk>",
    "empty cdrom": "<disk type='file' device='cdrom'><target dev='hdd' bus='ide'/><readonly/>"
    "</disk>",
    "floppy": "<disk type='file' device='floppy'><source file='{d}/floppy.img'/>"
    "<target dev='fda' bus='fdc'/></disk>",
    "tuned": "<disk type='file' device='disk'><driver name='qemu' type='raw' iothread='1' "
    "queues='4'/><source file='{d}/a.b.img'/><target dev='vdf' bus='virtio'/>"
    "<iotune><total_bytes_sec>1000</total_bytes_sec></iotune><alias name='ua-x'/></disk>",
    "scsi lun": "<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
    "<source file='{d}/x.longsuffix'/><target dev='sdc' bus='scsi' removable='on'/>"
    "<address type='drive' controller='0' bus='0' target='0' unit='2'/></disk>",
    "optional": "<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
    "<source file='{d}/data.1234567' startupPolicy='optional'/><target dev='vdg'/></disk>",
}
_NICS = {
    "network": "<interface type='network'><mac address='52:54:00:00:00:01'/>"
    "<source network='default' portgroup='p'/><model type='virtio'/><link state='up'/></interface>",
    "bridge": "<interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='br0'/>"
    "<target dev='vnet7'/><mtu size='9000'/><filterref filter='clean-traffic'/></interface>",
    "ovs": "<interface type='bridge'><mac address='52:54:00:00:00:03'/><source bridge='ovs'/>"
    "<virtualport type='openvswitch'><parameters interfaceid='11111111-2222-4333-8444-555555555555'"
    " profileid='keep'/></virtualport></interface>",
    "unmanaged tap": "<interface type='ethernet'><mac address='52:54:00:00:00:04'/>"
    "<target dev='mytap' managed='no'/></interface>",
    "macvtap": "<interface type='direct'><mac address='52:54:00:00:00:05'/>"
    "<source dev='eth0' mode='bridge'/><target dev='macvtap0'/><vlan><tag id='42'/></vlan>"
    "</interface>",
    "user": "<interface type='user'><mac address='52:54:00:00:00:06'/><model type='e1000'/>"
    "</interface>",
    "vhostuser": "<interface type='vhostuser'><mac address='52:54:00:00:00:07'/>"
    "<source type='unix' path='/run/vhost1.sock' mode='client'/><model type='virtio'/>"
    "</interface>",
    "hostdev nic": "<interface type='hostdev' managed='yes'><mac address='52:54:00:00:00:08'/>"
    "<source><address type='pci' domain='0x0000' bus='0x00' slot='0x07' function='0x0'/></source>"
    "</interface>",
    "bandwidth": "<interface type='network'><mac address='52:54:00:00:00:09'/>"
    "<source network='default'/><bandwidth><inbound average='1000'/></bandwidth>"
    "<coalesce><rx><frames max='7'/></rx></coalesce></interface>",
}
_GRAPHICS = {
    "fixed vnc": "<graphics type='vnc' port='5907' autoport='no' listen='0.0.0.0' passwd='x' "
    "keymap='de'/>",
    "vnc websocket": "<graphics type='vnc' port='-1' autoport='yes' websocket='5700'/>",
    "auto vnc": "<graphics type='vnc' port='-1' autoport='yes'/>",
    "fixed spice": "<graphics type='spice' port='5908' autoport='no'><listen type='address' "
    "address='::'/><image compression='off'/></graphics>",
    "spice tls": "<graphics type='spice' port='5908' tlsPort='5909' autoport='no'/>",
    "auto spice": "<graphics type='spice' autoport='yes'><gl enable='no'/></graphics>",
    "vnc socket": "<graphics type='vnc' socket='/run/web.vnc'><listen type='socket' "
    "socket='/run/web.vnc'/></graphics>",
    "headless": "<graphics type='egl-headless'/>",
}
_CHARACTER_DEVICES = {
    "pty serial": "<serial type='pty'><target port='0'/></serial>",
    "file serial": "<serial type='file'><source path='/var/log/web.log' append='on'/>"
    "<target port='1'/></serial>",
    "unix serial": "<serial type='unix'><source mode='bind' path='/run/web.sock'/>"
    "<target port='2'/></serial>",
    "tcp serial": "<serial type='tcp'><source mode='bind' host='127.0.0.1' service='4555'/>"
    "<protocol type='telnet'/><target port='3'/></serial>",
    "logged serial": "<serial type='pty'><log file='/var/log/web-serial.log' append='on'/>"
    "<target port='0'/></serial>",
    "dev serial": "<serial type='dev'><source path='/dev/ttyS0'/><target port='0'/></serial>",
    "pty console": "<console type='pty'><target type='serial' port='0'/></console>",
    "virtio console": "<console type='pty'><target type='virtio' port='1'/></console>",
    "dev parallel": "<parallel type='dev'><source path='/dev/parport0'/><target port='0'/>"
    "</parallel>",
    "file parallel": "<parallel type='file'><source path='/var/log/lp.log'/><target port='0'/>"
    "</parallel>",
    "agent": "<channel type='unix'><source mode='bind' path='/run/x/org.qemu.guest_agent.0'/>"
    "<target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
    "agent elsewhere": "<channel type='unix'><source mode='bind' path='/run/x/agent'/>"
    "<target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
    "agent without path": "<channel type='unix'><target type='virtio' "
    "name='org.qemu.guest_agent.0'/></channel>",
    "connecting channel": "<channel type='unix'><source mode='connect' path='/run/shared.sock'/>"
    "<target type='virtio' name='x'/></channel>",
    "spicevmc": "<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/>"
    "</channel>",
}
_OTHERS = {
    "vsock": "<vsock model='virtio'><cid auto='no' address='7'/></vsock>",
    "auto vsock": "<vsock model='virtio'><cid auto='yes'/></vsock>",
    "usb": "<controller type='usb' model='qemu-xhci' ports='15'/>",
    "scsi": "<controller type='scsi' index='0' model='virtio-scsi'><driver queues='4'/>"
    "</controller>",
    "pci hostdev": "<hostdev mode='subsystem' type='pci' managed='yes'><source><address "
    "domain='0x0000' bus='0x06' slot='0x12' function='0x5'/></source></hostdev>",
    "usb hostdev": "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/>"
    "<product id='0xbeef'/></source></hostdev>",
    "filesystem": "<filesystem type='mount' accessmode='passthrough'><source dir='/export'/>"
    "<target dir='export'/></filesystem>",
    "rng": "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    "tpm": "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>",
    "balloon": "<memballoon model='virtio'><stats period='5'/></memballoon>",
    "tablet": "<input type='tablet' bus='usb'/>",
    "video": "<video><model type='virtio' heads='1' primary='yes'/></video>",
    "sound": "<sound model='ich9'><codec type='duplex'/></sound>",
    "watchdog": "<watchdog model='i6300esb' action='reset'/>",
    "panic": "<panic model='isa'/>",
    "redirdev": "<redirdev bus='usb' type='spicevmc'/>",
    "smartcard": "<smartcard mode='passthrough' type='spicevmc'/>",
    "shmem": "<shmem name='shm0'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>",
    "nvdimm": "<memory model='nvdimm'><source><path>/var/nvdimm</path></source><target>"
    "<size unit='KiB'>524288</size><node>0</node></target></memory>",
    "iommu": "<iommu model='intel'><driver intremap='on'/></iommu>",
    "audio": "<audio id='1' type='none'/>",
}
DEVICES: dict[str, str] = _DISKS | _NICS | _GRAPHICS | _CHARACTER_DEVICES | _OTHERS
ELEMENTS: dict[str, str] = {
    "title": "<title>The web server</title>",
    "description": "<description>Serves pages for web</description>",
    "genid": "<genid>12345678-1234-4234-8234-123456789012</genid>",
    "metadata": "<metadata><o:os xmlns:o='http://libosinfo.org/x'>web</o:os></metadata>",
    "sysinfo": f"<sysinfo type='smbios'><system><entry name='uuid'>{SOURCE_UUID}</entry>"
    "<entry name='serial'>web</entry></system></sysinfo>",
    "dynamic label": "<seclabel type='dynamic' model='selinux' relabel='yes'/>",
    "static label": "<seclabel type='static' model='selinux'><label>system_u:x</label></seclabel>",
    "cpu": "<cpu mode='host-model'><topology sockets='1' cores='2' threads='1'/></cpu>",
    "clock": "<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/></clock>",
    "hugepages": "<memoryBacking><hugepages/></memoryBacking>",
    "features": "<features><acpi/><smm state='on'/></features>",
    "on_crash": "<on_crash>preserve</on_crash>",
    "iothreads": "<iothreads>2</iothreads>",
    "qemu arguments": "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>"
    "<q:arg value='-web'/></q:commandline>",
    "blkiotune": "<blkiotune><weight>800</weight></blkiotune>",
}
FIRMWARE: dict[str, str] = {
    "bios": "",
    "nvram": "<loader readonly='yes' type='pflash'>/usr/share/OVMF.fd</loader>"
    "<nvram template='/usr/share/VARS.fd'>{d}/web_VARS.fd</nvram>",
    "nvram without suffix": "<nvram>{d}/vars</nvram>",
    "nvram source": "<nvram type='file'><source file='{d}/web_VARS.fd'/></nvram>",
}
_FILES = re.compile(r"\{d\}/([^'<]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One definition; ``text`` has ``{d}`` for the directory of its files."""

    label: str
    text: str


def cases() -> Iterator[Case]:
    """Every part alone, and any two kinds of parts together."""
    for label, device in DEVICES.items():
        yield Case(label=label, text=_domain(device))
    for label, element in ELEMENTS.items():
        yield Case(label=label, text=_domain("", elements=element))
    running = _domain(_DISKS["raw"]).replace("<domain ", "<domain id='7' ")
    yield Case(label="as it runs", text=running)
    for label, firmware in FIRMWARE.items():
        yield Case(label=label, text=_domain(_DISKS["raw"], firmware=firmware))
    families = {"disk": _DISKS, "nic": _NICS, "display": _GRAPHICS, "port": _CHARACTER_DEVICES}
    for one, two in combinations(families, 2):
        for number in range(8):
            first = list(families[one].values())[number % len(families[one])]
            second = list(families[two].values())[-number % len(families[two])]
            element = list(ELEMENTS.values())[number]
            firmware = list(FIRMWARE.values())[number % len(FIRMWARE)]
            yield Case(
                label=f"{one} and {two} {number}",
                text=_domain(first + second, elements=element, firmware=firmware),
            )


def differing(case: Case, directory: Path) -> set[str]:
    """The paths at which ours differs from virt-clone's, with the case's files in ``directory``."""
    text = case.text.replace("{d}", str(directory))
    for name in _FILES.findall(case.text):
        (directory / name).write_bytes(b"\0" * 512)
    theirs, ours = printed_by_virt_clone(text, directory), printed_by_us(text)
    return differences(parse(theirs), parse(ours))


def listed(path: str) -> str | None:
    """The entry of the list that allows a difference there."""
    return next((entry for entry in DIFFERENCES if re.fullmatch(entry, path)), None)


def printed_by_virt_clone(text: str, directory: Path, *more: str) -> str:
    """What the installed virt-clone prints; its test driver needs no daemon."""
    file = directory / "source.xml"
    file.write_text(text)
    words = ["--original-xml", str(file), "--print-xml", *arguments(text), *more]
    done = subprocess.run(
        ["virt-clone", "--connect", "test:///default", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\n{text}"
    return done.stdout


def printed_by_us(text: str, *more: str) -> str:
    """What ``twinship-virt-clone --print-xml`` prints, but for what a host says."""
    summary = read.summary(text)
    options = parse_options(["--original-xml", "x", "--print-xml", *arguments(text), *more])
    source = order.Source(name=summary.name, uuid=summary.uuid, xml=text)
    name = options.name or clone_name(summary.name, ())
    return order.make(source, options, name, lambda path: Path(path).exists()).definition()


def arguments(text: str) -> list[str]:
    """What makes the outputs comparable: no random UUID, no random MAC."""
    macs = [f"52:54:00:ff:00:{number:02x}" for number in range(text.count("<interface "))]
    return ["--auto-clone", "-u", UUID, *(word for mac in macs for word in ("-m", mac))]


def differences(one: etree._Element, two: etree._Element) -> set[str]:
    """The paths of attributes and texts that are not equal; siblings are compared in order."""
    before, after = dict(_leaves(one, "")), dict(_leaves(two, ""))
    keys = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    return {re.sub(r"#\d+", "", key) for key in keys}


def _leaves(element: etree._Element, path: str) -> Iterator[tuple[str, str]]:
    for key, value in element.attrib.items():
        yield f"{path}{'/' if path else ''}@{key!s}", str(value)
    if path:
        yield path, (element.text or "").strip()
    seen: dict[str, int] = {}
    for child in element.iterchildren(tag=etree.Element):
        tag = str(child.tag)
        seen[tag] = seen.get(tag, -1) + 1
        yield from _leaves(child, f"{path}{'/' if path else ''}{tag}#{seen[tag]}")


def _domain(devices: str, *, elements: str = "", firmware: str = "") -> str:
    return (
        f"<domain type='kvm'><name>web</name><uuid>{SOURCE_UUID}</uuid>{elements}"
        "<memory unit='KiB'>1048576</memory><vcpu placement='static'>2</vcpu><os>"
        f"<type arch='x86_64' machine='q35'>hvm</type>{firmware}</os>"
        f"<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{devices}</devices></domain>"
    )
