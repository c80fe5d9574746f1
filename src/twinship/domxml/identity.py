"""The identity table: which parts of a domain XML make a VM itself, and what a clone does to them.

Each row is one path, as XPath below ``<domain>`` with several names in braces. ``renew`` gives a
new value, ``drop`` removes it so that libvirt makes one, ``keep`` and ``ask`` are there to be read:
what stays shared, with its reason, and what a person decides on. Nothing else is ever changed.
Sources: libvirt's formatdomain page, and what libvirt 9.0 does with definitions drawn from its own
schema.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from twinship.domxml import identity_edits as edits
from twinship.domxml.identity_edits import CHARDEVS, NewIdentity

__all__ = ["TABLE", "Action", "NewIdentity", "Row", "renew"]


class Action(StrEnum):
    """What a clone does to an identity."""

    RENEW = "renew"
    DROP = "drop"
    KEEP = "keep"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class Row:
    """One identity: where it stands, what is done with it and why."""

    path: str
    action: Action
    why: str
    apply: Callable[[etree._Element, NewIdentity], None] = edits.kept


_CHARDEV = f"devices/{{{','.join(CHARDEVS)}}}"
_RENEW, _DROP, _KEEP, _ASK = Action.RENEW, Action.DROP, Action.KEEP, Action.ASK

TABLE: tuple[Row, ...] = (
    Row("name", _RENEW, "libvirt's key on a host", edits.name),
    Row("uuid", _RENEW, "libvirt's key; the guest's machine id may derive from it", edits.uuid),
    Row("@id", _DROP, "the number of a run", edits.run_id),
    Row("title", _DROP, "it names the source", edits.title),
    Row("genid", _RENEW, "tells Windows and Linux that this is a copy", edits.genid),
    Row("sysinfo/system/entry[@name='uuid']", _RENEW, "must equal the uuid", edits.sysinfo_uuid),
    Row("devices/interface/mac", _RENEW, "two equal MACs on a link", edits.macs),
    Row(
        "devices/interface/target[not(@managed='no')]",
        _DROP,
        "a tap name is the host's; libvirt chooses one",
        edits.tap_names,
    ),
    Row(
        "devices/interface/virtualport[not(@type='midonet')]/parameters/@interfaceid",
        _DROP,
        "Open vSwitch's port id; libvirt makes a new one",
        edits.interface_ids,
    ),
    Row(
        "devices/interface/virtualport/parameters/@instanceid",
        _DROP,
        "a VM's instance at an 802.1Qbg switch; libvirt makes a new one",
    ),
    Row("devices/interface/source/@portid", _DROP, "the port of a run", edits.port_ids),
    Row(
        "devices/interface/filterref/parameter[@name='MAC']",
        _DROP,
        "libvirt takes the interface's own",
        edits.filtered_macs,
    ),
    Row("devices/interface/backend/@logFile", _RENEW, "two writers of one log", edits.passt_logs),
    Row("devices/vsock/cid", _DROP, "a context id is one guest's", edits.vsock),
    Row(
        "devices/graphics/@{port,tlsPort,websocket,autoport}",
        _DROP,
        "one listener a port; libvirt chooses a free one",
        edits.graphics_ports,
    ),
    Row(
        "devices/graphics/{@socket,listen/@socket}",
        _RENEW,
        "one listener a socket",
        edits.graphics_sockets,
    ),
    Row(
        "devices/channel[@type='unix'][not(target/@type='guestfwd')]/source[@mode='bind']",
        _DROP,
        "libvirt makes it, in a directory of the VM's own",
        edits.channel_sockets,
    ),
    Row(
        f"{_CHARDEV}/source[../@type='file' or ../@type='unix' and @mode='bind']/@path",
        _RENEW,
        "two QEMUs on one file or socket",
        edits.chardev_files,
    ),
    Row(f"{_CHARDEV}/log/@file", _RENEW, "two QEMUs on one log file", edits.chardev_logs),
    Row("devices/audio[@type='file']/@path", _RENEW, "two QEMUs on one file", edits.recordings),
    Row(
        "os/nvram[not(@type) or @type='file']/{text(),source/@file}",
        _RENEW,
        "two guests writing one variable store",
        edits.nvram,
    ),
    Row(
        "devices/tpm/backend[@type='emulator']/source",
        _DROP,
        "two TPMs on one state; libvirt keeps it by the uuid",
        edits.tpm_state,
    ),
    Row(
        "seclabel[not(@type) or @type='dynamic'][not(baselabel)]",
        _DROP,
        "a dynamic label belongs to a run",
        edits.security,
    ),
    Row(
        "seclabel/{imagelabel,label[not(../@type) or ../@type='dynamic']}",
        _DROP,
        "libvirt's own words on a run; a baselabel stays",
    ),
    Row(
        "{resource/fibrechannel,resource[not(partition)]}",
        _DROP,
        "the tag of one VM's traffic in the fabric; its administrator gives the clone another",
        edits.fabric_id,
    ),
    Row("devices/disk/source", _ASK, "copied, shared or left out: --disk TARGET=WAY"),
    Row("devices/disk[@device='floppy']", _ASK, "not copied; the plan warns"),
    Row("devices/disk/{serial,wwn}", _KEEP, "guests mount by them"),
    Row("devices/disk/{encryption,source/encryption}", _KEEP, "a copy is encrypted as it was"),
    Row("devices/lease", _ASK, "a lock for one running VM; the plan warns"),
    Row("devices/graphics/@{passwd,passwdValidTo}", _KEEP, "who may see the source may see it too"),
    Row("devices/hostdev", _ASK, "one running VM at a time; the plan warns"),
    Row(
        "devices/interface[@type='hostdev' or @type='vdpa']/source",
        _ASK,
        "a device of the host, for one running VM at a time; the plan warns",
    ),
    Row(
        "devices/interface[@type='direct']/source[@mode='passthrough']",
        _ASK,
        "the whole network device, for one running VM at a time; the plan warns",
    ),
    Row(
        "devices/interface[@type='vhostuser']/source",
        _ASK,
        "the switch has one port behind it; the plan warns",
    ),
    Row(
        "devices/interface[@type='udp' or @type='server']/source",
        _ASK,
        "somebody connects to that port; libvirt chooses none, the plan warns",
    ),
    Row(
        "devices/interface/portForward",
        _ASK,
        "somebody connects to that port; libvirt chooses none, the plan warns",
    ),
    Row(
        "devices/interface/target[@managed='no']",
        _ASK,
        "somebody made it for the VM, libvirt makes none; the plan warns",
    ),
    Row(
        "devices/interface/virtualport[@type='midonet']/parameters/@interfaceid",
        _ASK,
        "a port made in MidoNet for one VM; libvirt takes no interface without; the plan says no",
    ),
    Row(
        "devices/interface/filterref/parameter[@name='IP']",
        _ASK,
        "the filter lets the clone use its source's address only; the plan warns",
    ),
    Row(
        f"{_CHARDEV}[@type='tcp' or @type='udp']/source[@mode='bind']",
        _ASK,
        "somebody connects to that port; libvirt chooses none, the plan warns",
    ),
    Row(
        f"{_CHARDEV}[@type='dev' or @type='pipe']/source",
        _ASK,
        "a device or a pipe made for one VM; the plan warns",
    ),
    Row(
        f"{_CHARDEV}/source[not(@mode='bind')][../@type='unix' or ../@type='tcp']",
        _KEEP,
        "another listens there, and may to both",
    ),
    Row("devices/input/source", _ASK, "an input device of the host; the plan warns"),
    Row("devices/tpm", _ASK, "its keys are one machine's: --tpm copy or fresh"),
    Row(
        "devices/memory[source/path]",
        _ASK,
        "what an NVDIMM's file keeps is not copied; the plan warns",
    ),
    Row(
        "os/nvram[@type and not(@type='file')]",
        _ASK,
        "variables on a device or the network are not copied; the plan warns",
    ),
    Row("devices/{shmem,filesystem}", _KEEP, "shared on purpose; the plan warns"),
    Row(
        "sysinfo/{system,baseBoard,chassis}/entry[@name='serial' or @name='asset']",
        _KEEP,
        "licences, inventories and cloud-init go by them: who set them decides",
    ),
    Row("sysinfo/oemStrings", _KEEP, "settings of the guest's, as its disks"),
    Row("sysinfo[@type='fwcfg']", _KEEP, "settings of the guest's, as its disks"),
    Row("os/acpi/table", _KEEP, "a licence goes with its definition"),
    Row("seclabel[@type='static']", _KEEP, "an administrator chose it; files on the host carry it"),
    Row("launchSecurity", _KEEP, "its owner's keys and policy, which the clone starts under too"),
    Row(
        "*[local-name()='commandline']",
        _ASK,
        "QEMU's own arguments, which libvirt does not look into; the plan warns",
    ),
    Row("description", _KEEP, "what the VM is for, which its clone is too"),
    Row("metadata", _KEEP, "other tools' notes (os info)"),
)


def renew(root: etree._Element, new: NewIdentity) -> None:
    """Makes the domain ``root`` another VM, in place, row by row of the table."""
    for row in TABLE:
        row.apply(root, new)
