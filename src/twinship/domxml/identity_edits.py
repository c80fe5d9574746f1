"""How each identity of a definition is made another VM's: the verbs of the identity table. Pure.

Every function changes a ``<domain>`` in place, nothing outside its row's path, and leaves it valid
by libvirt's schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from twinship.domxml.document import drop, set_text

CHARDEVS = ("serial", "console", "parallel", "channel", "smartcard", "redirdev", "rng/backend")
"""Where a definition has character devices; all of one form."""


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


def name(root: etree._Element, new: NewIdentity) -> None:
    """The clone's name."""
    set_text(root, "name", new.name)


def uuid(root: etree._Element, new: NewIdentity) -> None:
    """The clone's UUID."""
    set_text(root, "uuid", new.uuid)


def run_id(root: etree._Element, _new: NewIdentity) -> None:
    """No number of a running VM."""
    root.attrib.pop("id", "")


def title(root: etree._Element, _new: NewIdentity) -> None:
    """No title."""
    drop(root, "title")


def genid(root: etree._Element, new: NewIdentity) -> None:
    """A generation id for a guest that has one."""
    if root.find("genid") is not None:
        set_text(root, "genid", new.genid)


def sysinfo_uuid(root: etree._Element, new: NewIdentity) -> None:
    """The UUID as the guest's SMBIOS shows it."""
    for entry in root.findall("sysinfo/system/entry[@name='uuid']"):
        entry.text = new.uuid


def macs(root: etree._Element, new: NewIdentity) -> None:
    """An address for every interface, also for one that had none."""
    for nic, mac in zip(root.findall("devices/interface"), new.macs, strict=True):
        element = nic.find("mac")
        if element is None:
            element = etree.SubElement(nic, "mac")
        element.set("address", mac)


def tap_names(root: etree._Element, _new: NewIdentity) -> None:
    """Names that libvirt is to choose; the schema knows no target without one."""
    for target in root.findall("devices/interface/target"):
        if target.get("managed") != "no":
            _remove(target)


def interface_ids(root: etree._Element, _new: NewIdentity) -> None:
    """No port id of a switch, but MidoNet's: libvirt takes no such interface without one."""
    for port in root.findall("devices/interface/virtualport"):
        for parameters in port.findall("parameters"):
            parameters.attrib.pop("instanceid", "")
            if port.get("type") != "midonet":
                parameters.attrib.pop("interfaceid", "")


def port_ids(root: etree._Element, _new: NewIdentity) -> None:
    """No port in a libvirt network."""
    for source in root.findall("devices/interface/source"):
        source.attrib.pop("portid", "")


def filtered_macs(root: etree._Element, _new: NewIdentity) -> None:
    """No address given to a network filter."""
    for parameter in root.findall("devices/interface/filterref/parameter[@name='MAC']"):
        _remove(parameter)


def passt_logs(root: etree._Element, new: NewIdentity) -> None:
    """A log of its own for every passt."""
    for backend in root.findall("devices/interface/backend[@logFile]"):
        backend.set("logFile", _renamed(backend.get("logFile", ""), new))


def vsock(root: etree._Element, _new: NewIdentity) -> None:
    """A context id that libvirt chooses."""
    for cid in root.findall("devices/vsock/cid"):
        cid.set("auto", "yes")
        cid.attrib.pop("address", "")


def graphics_ports(root: etree._Element, _new: NewIdentity) -> None:
    """Ports that libvirt chooses, in place of fixed ones.

    SPICE without a port listens on none: it is not given one.
    """
    for graphics in root.findall("devices/graphics"):
        kind = graphics.get("type")
        if kind not in ("vnc", "spice", "rdp"):
            continue
        fixed = kind == "vnc" and graphics.get("socket") is None
        for port in ("port", "tlsPort", "websocket"):
            if int(graphics.get(port, "-1")) > 0:
                graphics.set(port, "-1")
                fixed = True
        if fixed:
            graphics.set("autoport", "yes")


def graphics_sockets(root: etree._Element, new: NewIdentity) -> None:
    """Sockets named for the clone."""
    for graphics in root.findall("devices/graphics"):
        for holder in (graphics, *graphics.findall("listen")):
            if socket := holder.get("socket"):
                holder.set("socket", _renamed(socket, new))


def channel_sockets(root: etree._Element, _new: NewIdentity) -> None:
    """No path: libvirt makes a channel's socket itself, in a directory of the VM's own.

    It does so for a channel with a name, not for one that is an address of the guest's network.
    """
    for channel in root.findall("devices/channel[@type='unix']"):
        if channel.find("target[@type='guestfwd']") is None:
            for source in channel.findall("source[@mode='bind']"):
                channel.remove(source)


def chardev_files(root: etree._Element, new: NewIdentity) -> None:
    """Files, and sockets it listens on, named for the clone.

    A socket without a mode is another's that QEMU connects to (as libvirt 9.0 reads it).
    """
    for device in _chardevs(root):
        listens = "[@mode='bind']" if device.get("type") == "unix" else ""
        if device.get("type") in ("file", "unix"):
            for source in device.findall(f"source{listens}"):
                if path := source.get("path"):
                    source.set("path", _renamed(path, new))


def chardev_logs(root: etree._Element, new: NewIdentity) -> None:
    """Logs named for the clone."""
    for device in _chardevs(root):
        for log in device.findall("log[@file]"):
            log.set("file", _renamed(log.get("file", ""), new))


def recordings(root: etree._Element, new: NewIdentity) -> None:
    """Sound written to a file of its own."""
    for audio in root.findall("devices/audio[@type='file'][@path]"):
        audio.set("path", _renamed(audio.get("path", ""), new))


def nvram(root: etree._Element, new: NewIdentity) -> None:
    """The clone's file of firmware variables; those on a device or the network stay."""
    found = root.find("os/nvram")
    if found is None or not new.nvram or found.get("type", "file") != "file":
        return
    source = found.find("source")
    if source is not None:
        source.set("file", new.nvram)
    else:
        found.text = new.nvram


def tpm_state(root: etree._Element, _new: NewIdentity) -> None:
    """State where libvirt keeps it by default: by the VM's UUID."""
    drop(root, "devices/tpm/backend[@type='emulator']/source")


def security(root: etree._Element, _new: NewIdentity) -> None:
    """No label that a run was given; a base that an administrator chose for them stays."""
    for label in root.findall("seclabel"):
        drop(label, "imagelabel")
        if label.get("type", "dynamic") != "dynamic":
            continue
        drop(label, "label")
        if label.find("baselabel") is None:
            _remove(label)


def fabric_id(root: etree._Element, _new: NewIdentity) -> None:
    """No tag in a Fibre Channel fabric; libvirt takes no empty ``<resource>``."""
    for resource in root.findall("resource[fibrechannel]"):
        drop(resource, "fibrechannel")
        if len(resource) == 0:
            _remove(resource)


def kept(_root: etree._Element, _new: NewIdentity) -> None:
    """What a row does that is only to be read."""


def _chardevs(root: etree._Element) -> Iterator[etree._Element]:
    for path in CHARDEVS:
        yield from root.iterfind(f"devices/{path}")


def _renamed(path: str, new: NewIdentity) -> str:
    """``path`` with the old VM name in its last part replaced, else with ``-NEW`` appended."""
    directory, slash, last = path.rpartition("/")
    if new.old_name and new.old_name in last:
        return f"{directory}{slash}{last.replace(new.old_name, new.name, 1)}"
    stem, dot, suffix = last.rpartition(".")
    return f"{directory}{slash}{stem}-{new.name}{dot}{suffix}" if stem else f"{path}-{new.name}"


def _remove(element: etree._Element) -> None:
    owner = element.getparent()
    if owner is not None:
        owner.remove(element)
