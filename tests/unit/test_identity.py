"""The identity table: a clone differs from its source in what the table lists, and in no more."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from tests.builders import VmBuilder, a_clone_of, a_vm, clone_request, new_ids
from twinship.clone.plan import definition, plan_clone
from twinship.domxml.document import parse, serialize
from twinship.domxml.identity import TABLE, Action, NewIdentity, renew
from twinship.domxml.rewrite import mark_of

NEW = NewIdentity(
    old_name="web",
    name="web-clone",
    uuid="aaaaaaaa-0000-4000-8000-000000000001",
    genid="bbbbbbbb-0000-4000-8000-000000000002",
    macs=(),
    nvram="/nvram/web-clone_VARS.fd",
)

# The table's paths, as leaves of the tree. What is not here must come through untouched.
LISTED = (
    "@id",
    "name",
    "uuid",
    "title",
    "genid",
    "sysinfo/system/entry",
    "devices/interface/mac(/@address)?",
    "devices/interface/target",
    "devices/interface/target/@dev",
    "devices/interface/virtualport/parameters/@interfaceid",
    "devices/vsock/cid/@auto",
    "devices/vsock/cid/@address",
    "devices/graphics/@port",
    "devices/graphics/@tlsPort",
    "devices/graphics/@websocket",
    "devices/graphics/@autoport",
    "devices/graphics/(listen/)?@socket",
    "devices/(serial|console|parallel)/source/@path",
    "devices/channel/source(/@path|/@mode)?",
    "devices/(serial|console|parallel|channel)/log/@file",
    "os/nvram(/source/@file)?",
    "seclabel(/.*)?",
)

NICS = (
    "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/>"
    "<model type='virtio'/><link state='up'/></interface>",
    "<interface type='bridge'><source bridge='br0'/><target dev='vnet7'/><mtu size='9000'/>"
    "</interface>",
    "<interface type='bridge'><mac address='52:54:00:00:00:03'/><source bridge='ovs'/>"
    "<virtualport type='openvswitch'><parameters interfaceid='x' profileid='keep'/></virtualport>"
    "<target dev='mytap' managed='no'/></interface>",
    "<interface type='direct'><mac address='52:54:00:00:00:04'/><source dev='eth0' mode='bridge'/>"
    "<target dev='macvtap0'/><vlan><tag id='42'/></vlan></interface>",
)
DEVICES = (
    *NICS,
    "<emulator>/usr/bin/qemu-system-x86_64</emulator>",
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/>"
    "<source file='/images/web.qcow2'/><target dev='vda' bus='virtio'/><serial>WEB-1</serial>"
    "<wwn>5000c50015ea71aa</wwn><boot order='1'/></disk>",
    "<disk type='network' device='disk'><source protocol='rbd' name='pool/web'>"
    "<host name='mon' port='6789'/></source><auth username='u'><secret uuid='k'/></auth>"
    "<target dev='vdb'/></disk>",
    "<graphics type='vnc' port='5907' autoport='no' listen='0.0.0.0' passwd='x' websocket='5700'/>",
    "<graphics type='spice' port='5908' tlsPort='5909'><listen type='address' address='::'/>"
    "</graphics>",
    "<graphics type='vnc' port='-1' autoport='yes'/>",
    "<graphics type='egl-headless'/>",
    "<graphics type='vnc' socket='/run/web.vnc'><listen type='socket' socket='/run/web.vnc'/>"
    "</graphics>",
    "<serial type='pty'><target port='0'/></serial>",
    "<serial type='file'><source path='/var/log/web.log' append='on'/><target port='1'/></serial>",
    "<serial type='unix'><source mode='bind' path='/run/web.sock'/><target port='2'/>"
    "<log file='/var/log/web-serial.log' append='on'/></serial>",
    "<console type='pty'><target type='serial' port='0'/></console>",
    "<parallel type='dev'><source path='/dev/parport0'/></parallel>",
    "<channel type='unix'><source mode='bind' path='/run/x/domain-3-web/agent'/>"
    "<target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
    "<channel type='unix'><source mode='connect' path='/run/shared.sock'/>"
    "<target type='virtio' name='x'/></channel>",
    "<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>",
    "<vsock model='virtio'><cid auto='no' address='7'/></vsock>",
    "<controller type='usb' model='qemu-xhci' ports='15'/>",
    "<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0x0000' "
    "bus='0x06' slot='0x12' function='0x5'/></source></hostdev>",
    "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>",
    "<memballoon model='virtio'><stats period='5'/></memballoon>",
    "<input type='tablet' bus='usb'/>",
    "<video><model type='virtio' heads='1'/></video>",
    "<watchdog model='i6300esb' action='reset'/>",
)
ELEMENTS = (
    "<title>The web server</title>",
    "<description>Serves web pages for web</description>",
    "<genid>12345678-1234-4234-8234-123456789012</genid>",
    "<metadata><o:os xmlns:o='http://libosinfo.org/x'>web</o:os></metadata>",
    "<sysinfo type='smbios'><system><entry name='uuid'>11111111-2222-4333-8444-555555555555</entry>"
    "<entry name='serial'>web</entry></system></sysinfo>",
    "<seclabel type='dynamic' model='selinux' relabel='yes'/>",
    "<seclabel type='none' model='apparmor'/>",
    "<seclabel type='static' model='selinux'><label>system_u:x</label></seclabel>",
    "<cpu mode='host-model'><topology sockets='1' cores='2' threads='1'/></cpu>",
    "<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/></clock>",
    "<memoryBacking><hugepages/></memoryBacking>",
    "<on_crash>preserve</on_crash>",
    "<iothreads>2</iothreads>",
    "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>"
    "<q:arg value='-web'/></q:commandline>",
)
FIRMWARE = (
    "",
    "<loader readonly='yes' type='pflash'>/usr/share/OVMF.fd</loader>"
    "<nvram template='/usr/share/VARS.fd'>/nvram/web_VARS.fd</nvram>",
    "<nvram type='file'><source file='/nvram/web_VARS.fd'/></nvram>",
)


@st.composite
def domains(draw: st.DrawFn) -> str:
    """A domain of any combination of devices and settings."""
    devices = draw(st.lists(st.sampled_from(DEVICES), max_size=10))
    elements = draw(st.lists(st.sampled_from(ELEMENTS), max_size=8, unique=True))
    running = " id='7'" if draw(st.booleans()) else ""
    return (
        f"<domain type='kvm'{running}><name>web</name><uuid>11111111-2222-4333-8444-555555555555"
        f"</uuid>{''.join(elements)}<memory>1048576</memory><vcpu>2</vcpu><os>"
        f"<type arch='x86_64' machine='q35'>hvm</type>{draw(st.sampled_from(FIRMWARE))}</os>"
        f"<devices>{''.join(devices)}</devices></domain>"
    )


@given(domains())
def test_nothing_changes_but_what_the_table_lists(text: str) -> None:
    before, after = parse(text), renewed(text)

    for path in differences(leaves(before), leaves(after)):
        assert any(re.fullmatch(listed, path) for listed in LISTED), path


@given(domains())
def test_every_identity_in_the_table_is_new_or_gone(text: str) -> None:
    root = renewed(text)
    macs = [mac.get("address") for mac in root.findall("devices/interface/mac")]

    assert root.findtext("name") == NEW.name
    assert root.findtext("uuid") == NEW.uuid
    assert root.findtext("genid") in (None, NEW.genid)
    assert root.findtext("title") is None
    assert root.get("id") is None
    assert macs == list(_macs(root))
    assert root.find("devices/interface/virtualport/parameters[@interfaceid]") is None
    assert root.find("seclabel[@type='dynamic']") is None
    assert len(root.findall("seclabel[@type='static']/label")) == text.count("'static'")
    assert all(t.get("managed") == "no" for t in root.findall("devices/interface/target[@dev]"))
    assert all(cid.get("address") is None for cid in root.findall("devices/vsock/cid"))
    assert root.findtext("os/nvram", "").strip() in ("", NEW.nvram)
    for entry in root.findall("sysinfo/system/entry[@name='uuid']"):
        assert entry.text == NEW.uuid
    for graphics in root.findall("devices/graphics[@type='vnc']"):
        assert graphics.get("port", "-1") == "-1"
        assert graphics.get("autoport") == (None if graphics.get("socket") else "yes")


@given(domains())
def test_a_clones_files_and_sockets_are_its_own(text: str) -> None:
    root = renewed(text)
    own = [
        *(s.get("path") for s in root.findall("devices/serial/source[@path]")),
        *(log.get("file") for log in root.findall("devices/serial/log")),
        *(g.get("socket") for g in root.findall("devices/graphics[@socket]")),
        *(g.get("socket") for g in root.findall("devices/graphics/listen[@socket]")),
    ]

    assert all("web-clone" in str(path) for path in own)
    bound = root.findall("devices/channel[@type='unix']/source[@mode='bind']")
    assert bound == []


@given(domains())
def test_renewing_twice_is_renewing_once(text: str) -> None:
    once = renewed(text)
    twice = renewed(serialize(once), old_name="web-clone")

    assert differences(leaves(once), leaves(twice)) == set()


def test_every_row_says_why_and_has_a_path_of_its_own() -> None:
    assert len({row.path for row in TABLE}) == len(TABLE)
    assert all(row.why for row in TABLE)
    assert {row.action for row in TABLE} == set(Action)


def test_a_tap_its_owner_made_is_kept_and_one_libvirt_made_is_not() -> None:
    text = a_vm().with_device(NICS[2]).with_device(NICS[3]).xml()
    targets = renewed(text).findall("devices/interface/target")

    assert [target.get("dev") for target in targets] == ["mytap"]


def test_a_vm_that_wants_no_label_gets_none() -> None:
    text = a_vm().with_element("<seclabel type='none' model='selinux'/>").xml()

    assert renewed(text).find("seclabel[@type='none']") is not None


def test_a_serial_number_guests_mount_by_is_kept() -> None:
    text = a_vm().with_disk("vda", inside="<serial>WEB-1</serial>").xml()

    assert renewed(text).findtext("devices/disk/serial") == "WEB-1"


OWN = {
    "a tap name goes with its element, which cannot be without": (
        "<interface type='bridge'><source bridge='b'/><target dev='vnet1' managed='yes'/>"
        "</interface>",
        "<interface type='bridge'><source bridge='b'/><mac address='52:54:00:ff:00:00'/>"
        "</interface>",
    ),
    "MidoNet's port stays: libvirt takes no such interface without one": (
        "<interface type='bridge'><mac address='x'/><virtualport type='midonet'>"
        "<parameters interfaceid='y'/></virtualport></interface>",
        "<interface type='bridge'><mac address='52:54:00:ff:00:00'/><virtualport type='midonet'>"
        "<parameters interfaceid='y'/></virtualport></interface>",
    ),
    "an instance at a switch and a port in a network are the source's": (
        "<interface type='network'><mac address='x'/><source network='n' portid='p'/>"
        "<virtualport type='802.1Qbg'><parameters managerid='1' instanceid='i'/></virtualport>"
        "</interface>",
        "<interface type='network'><mac address='52:54:00:ff:00:00'/><source network='n'/>"
        "<virtualport type='802.1Qbg'><parameters managerid='1'/></virtualport></interface>",
    ),
    "a filter is not told the source's MAC address": (
        "<interface type='network'><mac address='x'/><filterref filter='clean-traffic'>"
        "<parameter name='MAC' value='x'/><parameter name='IP' value='10.0.0.7'/></filterref>"
        "</interface>",
        "<interface type='network'><mac address='52:54:00:ff:00:00'/>"
        "<filterref filter='clean-traffic'><parameter name='IP' value='10.0.0.7'/></filterref>"
        "</interface>",
    ),
    "passt writes a log of its own": (
        "<interface type='user'><mac address='x'/><backend type='passt' logFile='/l/web.log'/>"
        "</interface>",
        "<interface type='user'><mac address='52:54:00:ff:00:00'/>"
        "<backend type='passt' logFile='/l/web-clone.log'/></interface>",
    ),
    "a socket that QEMU connects to is another's": (
        "<serial type='unix'><source mode='connect' path='/run/web.sock'/></serial>",
        "<serial type='unix'><source mode='connect' path='/run/web.sock'/></serial>",
    ),
    "a socket without a mode is connected to": (
        "<parallel type='unix'><source path='/run/web.sock'/></parallel>",
        "<parallel type='unix'><source path='/run/web.sock'/></parallel>",
    ),
    "every source is renamed, not the first alone": (
        "<serial type='file'><source path='/l/web-a'/><source path='/l/web-b'/></serial>",
        "<serial type='file'><source path='/l/web-clone-a'/><source path='/l/web-clone-b'/>"
        "</serial>",
    ),
    "a smart card reader is a character device too": (
        "<smartcard mode='passthrough' type='unix'><source mode='bind' path='/run/web'/>"
        "<log file='/l/web'/></smartcard>",
        "<smartcard mode='passthrough' type='unix'><source mode='bind' path='/run/web-clone'/>"
        "<log file='/l/web-clone'/></smartcard>",
    ),
    "a redirected USB device is a character device too": (
        "<redirdev bus='usb' type='unix'><source mode='bind' path='/run/web'/></redirdev>",
        "<redirdev bus='usb' type='unix'><source mode='bind' path='/run/web-clone'/></redirdev>",
    ),
    "an entropy gatherer is a character device too": (
        "<rng model='virtio'><backend model='egd' type='unix'><source mode='bind' path='/r/web'/>"
        "<log file='/l/web'/></backend></rng>",
        "<rng model='virtio'><backend model='egd' type='unix'>"
        "<source mode='bind' path='/r/web-clone'/><log file='/l/web-clone'/></backend></rng>",
    ),
    "for a channel in the guest's network libvirt makes no socket": (
        "<channel type='unix'><source mode='bind' path='/run/web'/>"
        "<target type='guestfwd' address='10.0.2.1' port='4600'/></channel>",
        "<channel type='unix'><source mode='bind' path='/run/web-clone'/>"
        "<target type='guestfwd' address='10.0.2.1' port='4600'/></channel>",
    ),
    "sound is recorded to a file of its own": (
        "<audio id='1' type='file' path='/l/web.wav'/>",
        "<audio id='1' type='file' path='/l/web-clone.wav'/>",
    ),
    "SPICE that listens nowhere is given no port": (
        "<graphics type='spice'><listen type='none'/></graphics>",
        "<graphics type='spice'><listen type='none'/></graphics>",
    ),
    "an emulated TPM keeps its state where libvirt puts it": (
        "<tpm><backend type='emulator' version='2.0'><source type='dir' path='/t/web'/></backend>"
        "</tpm>",
        "<tpm><backend type='emulator' version='2.0'/></tpm>",
    ),
}


@pytest.mark.parametrize("what", OWN)
def test_of_a_device(what: str) -> None:
    before, after = OWN[what]

    assert renewed_devices(before) == after


SETTINGS = {
    "a base for labels stays, labels of a run do not": (
        "<seclabel type='dynamic' model='dac'><label>+1:+1</label><imagelabel>+1:+1</imagelabel>"
        "<baselabel>+0:+0</baselabel></seclabel>",
        "<seclabel type='dynamic' model='dac'><baselabel>+0:+0</baselabel></seclabel>",
    ),
    "an administrator's label stays without libvirt's note on a run": (
        "<seclabel type='static' model='dac'><label>+1:+1</label><imagelabel>+1:+1</imagelabel>"
        "</seclabel>",
        "<seclabel type='static' model='dac'><label>+1:+1</label></seclabel>",
    ),
    "a tag in the fabric goes, and leaves nothing empty": (
        "<resource><fibrechannel appid='web'/></resource>",
        "",
    ),
    "a control group stays when the tag in the fabric goes": (
        "<resource><partition>/web</partition><fibrechannel appid='web'/></resource>",
        "<resource><partition>/web</partition></resource>",
    ),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_of_a_setting(what: str) -> None:
    before, after = SETTINGS[what]
    root = renewed(a_vm().with_element(before).xml())

    found = [one_line(child) for child in root if child.tag in ("seclabel", "resource")]
    assert "".join(found) == after


@pytest.mark.parametrize(
    "nvram",
    [
        "<nvram type='block'><source dev='/dev/vg/web'/></nvram>",
        "<nvram type='network'><source protocol='nbd' name='web'><host name='h'/></source></nvram>",
    ],
)
def test_firmware_variables_that_are_in_no_file_stay_as_they_are(nvram: str) -> None:
    root = renewed(a_vm().xml().replace("</os>", f"{nvram}</os>"))
    found = root.find("os/nvram")

    assert found is not None
    assert one_line(found) == nvram


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/log/web.log", "/var/log/web-clone.log"),
        ("/var/log/web/serial.log", "/var/log/web/serial-web-clone.log"),
        ("/var/log/serial", "/var/log/serial-web-clone"),
        ("/run/web", "/run/web-clone"),
    ],
)
def test_log_files_are_named_for_the_clone(path: str, expected: str) -> None:
    text = a_vm().with_device(f"<serial type='file'><source path='{path}'/></serial>").xml()
    source = renewed(text).find("devices/serial/source")

    assert source is not None
    assert source.get("path") == expected


def test_the_clone_of_a_clone_is_marked_as_the_clone_of_its_source() -> None:
    first = _clone_definition(a_vm("web").with_disk())
    facts = a_clone_of(a_vm("web-clone").with_disk())
    spec = plan_clone(facts, clone_request("web-clone"), new_ids(0)).spec
    second = definition(first, spec)

    assert mark_of(first, "clone") == {"of": a_vm().uuid, "name": "web", "mode": "full"}
    assert (mark_of(second, "clone") or {})["name"] == "web-clone"
    assert second.count("urn:twinship:domain:1") == 1


def test_a_clone_is_not_away_though_its_source_was() -> None:
    away = (
        "<metadata><t:vm xmlns:t='urn:twinship:domain:1'>"
        "<t:away host='kvm09' since='x'/></t:vm></metadata>"
    )
    assert mark_of(_clone_definition(a_vm("web").with_disk().with_element(away)), "away") is None


def renewed(text: str, old_name: str = "web") -> etree._Element:
    """The domain with a new identity."""
    return _renew(parse(text), old_name)


def renewed_devices(xml: str) -> str:
    """A device as its clone has it."""
    devices = renewed(a_vm().with_device(xml).xml()).find("devices")
    assert devices is not None
    return "".join(one_line(device) for device in devices if device.tag != "emulator")


def one_line(element: etree._Element) -> str:
    """An element without white space, in single quotes."""
    return (
        re.sub(r">\s+<", "><", etree.tostring(element, encoding="unicode"))
        .strip()
        .replace('"', "'")
    )


def leaves(root: etree._Element, path: str = "") -> dict[str, str]:
    """Every attribute and text of a tree by its path; siblings of a tag are numbered."""
    found = {f"{path}@{key!s}": str(value) for key, value in root.attrib.items()}
    if path and len(root) == 0:
        found[path.rstrip("/")] = (root.text or "").strip()
    seen: dict[str, int] = {}
    for child in root:
        tag = str(child.tag)
        seen[tag] = seen.get(tag, -1) + 1
        key = child.get("name") or child.get("type") or ""
        found |= leaves(child, f"{path}{tag}#{seen[tag]}{'' if tag != 'seclabel' else key}/")
    return found


def differences(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """The paths that changed, came or went, without the numbers."""
    paths = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    return {re.sub(r"#\d+[a-z]*", "", path) for path in paths}


def _renew(root: etree._Element, old_name: str = "web") -> etree._Element:
    values = {field: getattr(NEW, field) for field in ("name", "uuid", "genid", "nvram")}
    renew(root, NewIdentity(old_name=old_name, macs=_macs(root), **values))
    return root


def _macs(root: etree._Element) -> tuple[str, ...]:
    count = len(root.findall("devices/interface"))
    return tuple(f"52:54:00:ff:00:{number:02x}" for number in range(count))


def _clone_definition(vm: VmBuilder) -> str:
    return definition(vm.xml(), plan_clone(a_clone_of(vm), clone_request(), new_ids(vm.nics)).spec)
