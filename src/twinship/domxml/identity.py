"""The identity table: which parts of a domain XML make a VM itself, and what a clone does to them.

Each row is one path. ``renew`` gives a new value, ``drop`` removes it so that libvirt makes one,
``keep`` is there to be read: it is shared with a reason. Sources: libvirt's formatdomain page and
the measured list in docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from twinship.domxml.document import drop, set_text


class Action(StrEnum):
    """What a clone does to an identity."""

    RENEW = "renew"
    DROP = "drop"
    KEEP = "keep"
    ASK = "ask"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIdentity:
    """The new values of a clone. ``macs`` are in the order of its interfaces.

    ``nvram`` is the clone's variable store, empty where the source has none.
    """

    old_name: str
    name: str
    uuid: str
    genid: str
    macs: tuple[str, ...]
    nvram: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One identity: where it stands, what is done with it and why."""

    path: str
    action: Action
    why: str
    apply: Callable[[etree._Element, NewIdentity], None]


def _name(root: etree._Element, new: NewIdentity) -> None:
    set_text(root, "name", new.name)


def _uuid(root: etree._Element, new: NewIdentity) -> None:
    set_text(root, "uuid", new.uuid)


def _genid(root: etree._Element, new: NewIdentity) -> None:
    if root.find("genid") is not None:
        set_text(root, "genid", new.genid)


def _sysinfo_uuid(root: etree._Element, new: NewIdentity) -> None:
    for entry in root.findall("sysinfo/system/entry[@name='uuid']"):
        entry.text = new.uuid


def _macs(root: etree._Element, new: NewIdentity) -> None:
    for nic, mac in zip(root.findall("devices/interface"), new.macs, strict=True):
        element = nic.find("mac")
        if element is None:
            element = etree.SubElement(nic, "mac")
        element.set("address", mac)


def _tap_names(root: etree._Element, _new: NewIdentity) -> None:
    for target in root.findall("devices/interface/target[@dev]"):
        if target.get("managed") != "no":
            del target.attrib["dev"]
            if not target.attrib:
                _remove(target)


def _interface_ids(root: etree._Element, _new: NewIdentity) -> None:
    for parameters in root.findall("devices/interface/virtualport/parameters"):
        parameters.attrib.pop("interfaceid", "")


def _vsock(root: etree._Element, _new: NewIdentity) -> None:
    for cid in root.findall("devices/vsock/cid"):
        cid.set("auto", "yes")
        cid.attrib.pop("address", "")


def _graphics(root: etree._Element, new: NewIdentity) -> None:
    for graphics in root.findall("devices/graphics"):
        if graphics.get("type") not in ("vnc", "spice", "rdp"):
            continue
        for port in ("port", "tlsPort", "websocket"):
            if int(graphics.get(port, "-1")) > 0:
                graphics.set(port, "-1")
        for holder in (graphics, *graphics.findall("listen")):
            if socket := holder.get("socket"):
                holder.set("socket", _renamed(socket, new.old_name, new.name))
        if graphics.get("socket") is None:
            graphics.set("autoport", "yes")


def _chardevs(root: etree._Element, new: NewIdentity) -> None:
    for tag in ("serial", "console", "parallel", "channel"):
        for device in root.findall(f"devices/{tag}"):
            _chardev(device, new.old_name, new.name)


def _chardev(device: etree._Element, old: str, new: str) -> None:
    source, log = device.find("source"), device.find("log")
    if device.tag == "channel" and device.get("type") == "unix" and source is not None:
        # libvirt makes the socket's path itself, from the VM's own id.
        if source.get("mode", "bind") == "bind":
            device.remove(source)
    elif source is not None and source.get("path") and device.get("type") in ("file", "unix"):
        source.set("path", _renamed(source.get("path", ""), old, new))
    if log is not None and log.get("file"):
        log.set("file", _renamed(log.get("file", ""), old, new))


def _nvram(root: etree._Element, new: NewIdentity) -> None:
    nvram = root.find("os/nvram")
    if nvram is None or not new.nvram:
        return
    source = nvram.find("source")
    if source is not None and source.get("file"):
        source.set("file", new.nvram)
    else:
        nvram.text = new.nvram


def _security(root: etree._Element, _new: NewIdentity) -> None:
    for label in root.findall("seclabel"):
        if label.get("type", "dynamic") == "dynamic":
            _remove(label)


def _title(root: etree._Element, _new: NewIdentity) -> None:
    drop(root, "title")


def _kept(_root: etree._Element, _new: NewIdentity) -> None:
    """A row that is only to be read."""


TABLE: tuple[Row, ...] = (
    Row("name", Action.RENEW, "libvirt's key on a host", _name),
    Row("uuid", Action.RENEW, "libvirt's key; the guest's machine id may derive from it", _uuid),
    Row("title", Action.DROP, "it names the source", _title),
    Row("genid", Action.RENEW, "tells Windows and Linux that this is a copy", _genid),
    Row("sysinfo/system/entry[@name='uuid']", Action.RENEW, "must equal the uuid", _sysinfo_uuid),
    Row("devices/interface/mac", Action.RENEW, "two equal MACs on a link", _macs),
    Row("devices/interface/target/@dev", Action.DROP, "a tap name is the host's", _tap_names),
    Row(
        "devices/interface/virtualport/parameters/@interfaceid",
        Action.DROP,
        "Open vSwitch's port id; libvirt makes a new one",
        _interface_ids,
    ),
    Row("devices/vsock/cid", Action.DROP, "a context id is one guest's", _vsock),
    Row("devices/graphics/@{port,socket}", Action.RENEW, "one listener a port", _graphics),
    Row(
        "devices/{serial,console,parallel,channel}",
        Action.RENEW,
        "two QEMUs on one socket or log file",
        _chardevs,
    ),
    Row("os/nvram", Action.RENEW, "two guests writing one variable store", _nvram),
    Row("seclabel", Action.DROP, "dynamic labels belong to a run", _security),
    Row("devices/disk/{serial,wwn}", Action.KEEP, "guests mount by them", _kept),
    Row("devices/graphics/@passwd", Action.KEEP, "who may see the source may see its clone", _kept),
    Row("devices/hostdev", Action.ASK, "one running VM at a time; the plan warns", _kept),
    Row(
        "devices/*[@type='tcp' or @type='udp']/source[@mode='bind']",
        Action.ASK,
        "somebody connects to that port; libvirt chooses none, the plan warns",
        _kept,
    ),
    Row("devices/tpm", Action.ASK, "its keys are one machine's: --tpm copy or fresh", _kept),
    Row("devices/disk[@device='floppy']", Action.ASK, "not copied; the plan warns", _kept),
    Row("devices/{shmem,filesystem}", Action.KEEP, "shared on purpose; the plan warns", _kept),
    Row("sysinfo[@type='fwcfg']", Action.KEEP, "settings of the guest's, as its disks", _kept),
    Row("description", Action.KEEP, "what the VM is for, which its clone is too", _kept),
    Row("metadata", Action.KEEP, "other tools' notes (os info)", _kept),
)


def renew(root: etree._Element, new: NewIdentity) -> None:
    """Makes the domain ``root`` another VM, in place, row by row of the table."""
    for row in TABLE:
        row.apply(root, new)
    root.attrib.pop("id", "")


def _renamed(path: str, old: str, new: str) -> str:
    """``path`` with the old VM name in its last part replaced, else with ``-NEW`` appended."""
    directory, slash, last = path.rpartition("/")
    if old and old in last:
        return f"{directory}{slash}{last.replace(old, new, 1)}"
    stem, dot, suffix = last.rpartition(".")
    return f"{directory}{slash}{stem}-{new}{dot}{suffix}" if stem else f"{path}-{new}"


def _remove(element: etree._Element) -> None:
    owner = element.getparent()
    if owner is not None:
        owner.remove(element)
