"""What definitions hold that nobody else can hold, and who holds the same."""

from __future__ import annotations

import pytest

from tests.builders import a_vm
from tests.identity_paths import TOLD, clone_of, without
from twinship.domxml.resources import Owner, Reach, collisions, resources

HELD = {
    "<interface type='bridge'><mac address='52:54:00:AA:00:01'/></interface>": {
        "MAC address 52:54:00:aa:00:01"
    },
    "<interface type='bridge'><target dev='lan7'/></interface>": {"tap device lan7"},
    "<interface type='bridge'><target dev='vnet7'/></interface>": set(),
    "<interface type='bridge'><virtualport type='openvswitch'><parameters interfaceid='AB'/>"
    "</virtualport></interface>": {"Open vSwitch interface id ab"},
    "<vsock><cid auto='no' address='7'/></vsock>": {"vsock context id 7"},
    "<vsock><cid auto='yes' address='7'/></vsock>": set(),
    "<graphics type='vnc' port='5901' autoport='no' websocket='5701'/>": {
        "TCP port 5901",
        "TCP port 5701",
    },
    "<graphics type='vnc' port='5901' autoport='yes'/>": set(),
    "<graphics type='spice' autoport='no' port='5902' tlsPort='5903'/>": {
        "TCP port 5902",
        "TCP port 5903",
    },
    "<graphics type='vnc' socket='/run/a.sock'/>": {"socket /run/a.sock"},
    "<serial type='tcp'><source mode='bind' service='4555'/></serial>": {"TCP port 4555"},
    "<serial type='tcp'><source mode='connect' service='4555'/></serial>": set(),
    "<serial type='udp'><source mode='bind' service='4555'/></serial>": {"UDP port 4555"},
    "<channel type='unix'><source mode='bind' path='/run/c'/></channel>": {"socket /run/c"},
    "<channel type='unix'><source mode='connect' path='/run/c'/></channel>": set(),
    "<serial type='file'><source path='/l/a.log'/></serial>": {"file /l/a.log"},
    "<serial type='pty'><log file='/l/b.log'/></serial>": {"file /l/b.log"},
    "<disk type='file' device='disk'><source file='/d'/></disk>": {"file /d"},
    "<disk type='file' device='disk'><source file='/d'/><readonly/></disk>": set(),
    "<disk type='file' device='disk'><source file='/d'/><shareable/></disk>": set(),
    "<disk type='file' device='cdrom'><source file='/iso'/></disk>": set(),
    "<disk type='file' device='floppy'><source file='/f'/></disk>": {"file /f"},
    "<memory model='nvdimm'><source><path>/n</path></source></memory>": {"file /n"},
    "<hostdev type='pci'><source><address domain='0' bus='3'/></source></hostdev>": {
        "host device 0000:03:00.0"
    },
    "<hostdev type='mdev'><source><address uuid='x'/></source></hostdev>": {"host device uuid=x"},
    "<hostdev type='pci'><source><address domain='0x0000' bus='0x03' slot='0x00' function='0x0'/>"
    "</source></hostdev>": {"host device 0000:03:00.0"},
    "<interface type='hostdev'><source><address type='pci' bus='3'/></source></interface>": {
        "host device 0000:03:00.0"
    },
    "<disk type='nvme'><source type='pci' namespace='1'><address bus='3'/></source></disk>": {
        "host device 0000:03:00.0"
    },
    "<hostdev type='pci'><source><address bus='3'/></source><shareable/></hostdev>": set(),
    "<hostdev type='usb'><source><vendor id='0x1234'/><product id='0xbeef'/></source></hostdev>": {
        "host device usb 1234:beef"
    },
    "<hostdev type='usb'><source><address bus='1' device='2'/></source></hostdev>": {
        "host device bus=1 device=2"
    },
    "<hostdev type='scsi'><source><adapter name='scsi_host0'/>"
    "<address bus='0' target='0' unit='1'/></source></hostdev>": {
        "host device scsi_host0 bus=0 target=0 unit=1"
    },
    "<hostdev type='scsi_host'><source protocol='vhost' wwpn='naa.5'/></hostdev>": {
        "host device naa.5"
    },
    "<interface type='vhostuser'><source type='unix' path='/run/v' mode='client'/></interface>": {
        "socket /run/v"
    },
    "<disk type='vhostuser'><source type='unix' path='/run/v'/></disk>": {"socket /run/v"},
    "<serial type='unix'><source path='/run/c'/></serial>": set(),
    "<rng><backend model='egd' type='tcp'><source mode='bind' service='70'/></backend></rng>": {
        "TCP port 70"
    },
    "<rng><backend model='egd' type='null'><log file='/l'/></backend></rng>": {"file /l"},
    "<interface type='server'><source port='71'/></interface>": {"TCP port 71"},
    "<interface type='udp'><source port='9'><local port='72'/></source></interface>": {
        "UDP port 72"
    },
    "<interface type='user'><portForward proto='tcp'><range start='73' to='22'/></portForward>"
    "<portForward proto='udp'><range start='74'/></portForward></interface>": {
        "TCP port 73",
        "UDP port 74",
    },
    "<interface type='user'><backend type='passt' logFile='/l'/></interface>": {"file /l"},
    "<interface type='vdpa'><source dev='/dev/vhost-vdpa-0'/></interface>": {
        "device file /dev/vhost-vdpa-0"
    },
    "<interface type='direct'><source dev='eth1' mode='passthrough'/></interface>": {
        "network device eth1"
    },
    "<interface type='direct'><source dev='eth1' mode='bridge'/></interface>": set(),
    "<interface type='bridge'><virtualport type='midonet'><parameters interfaceid='AB'/>"
    "</virtualport></interface>": {"MidoNet port ab"},
    "<interface type='direct'><virtualport type='802.1Qbg'><parameters instanceid='AB'/>"
    "</virtualport></interface>": {"802.1Qbg instance id ab"},
    "<interface type='bridge'><filterref filter='f'><parameter name='IP' value='10.0.0.1'/>"
    "</filterref></interface>": {"filtered address 10.0.0.1"},
    "<audio id='1' type='file' path='/a.wav'/>": {"file /a.wav"},
    "<input type='evdev'><source dev='/dev/input/1'/></input>": {"device file /dev/input/1"},
    "<parallel type='dev'><source path='/dev/parport0'/></parallel>": {"device file /dev/parport0"},
    "<serial type='pipe'><source path='/run/p'/></serial>": {"device file /run/p"},
    "<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>": {
        "device file /dev/tpm0"
    },
    "<tpm><backend type='external'><source type='unix' path='/t'/></backend></tpm>": {"socket /t"},
    "<tpm><backend type='emulator'><source type='dir' path='/t'/></backend></tpm>": {
        "TPM state /t"
    },
    "<lease><lockspace>l</lockspace><key>k</key><target path='/l'/></lease>": {"lease l/k"},
    "<disk type='block'><source dev='/dev/vg/d'/></disk>": {"block device /dev/vg/d"},
    "<disk type='block'><source dev='/dev/vg/d'/><shareable/></disk>": set(),
    "<disk type='volume'><source pool='p' volume='v'/></disk>": {"volume p/v"},
    "<disk type='network'><source protocol='rbd' name='p/i'><host name='m'/></source></disk>": {
        "network disk rbd:m/p/i"
    },
    "<memory><source><path>/n</path></source><target><readonly/></target></memory>": set(),
    "<shmem name='s'/>": {"shared memory s"},
    "<shmem name='s' role='peer'/>": set(),
    "<filesystem type='mount'><source socket='/run/fs'/></filesystem>": {"socket /run/fs"},
}


@pytest.mark.parametrize("device", HELD)
def test_a_device_holds(device: str) -> None:
    assert {str(held) for held in resources(a_vm().with_device(device).xml())} == HELD[device]


def an_owner(name: str, host: str, device: str, uuid: str = "") -> Owner:
    text = a_vm(name).with_device(device).xml()
    return Owner(host=host, name=name, uuid=uuid or name, holds=resources(text))


def test_an_identity_collides_anywhere_and_a_resource_on_one_host() -> None:
    mac = "<interface type='bridge'><mac address='52:54:00:aa:00:01'/></interface>"
    port = "<graphics type='vnc' port='5901' autoport='no'/>"
    owners = [
        an_owner("a", "kvm01", mac),
        an_owner("b", "kvm02", mac),
        an_owner("c", "kvm01", port),
        an_owner("d", "kvm02", port),
        an_owner("e", "kvm02", port),
    ]

    found = {(c.one.name, c.other.name, c.held.reach) for c in collisions(owners)}

    assert found == {("a", "b", Reach.ANYWHERE), ("d", "e", Reach.ON_HOST)}


def test_one_vm_defined_on_two_hosts_is_no_collision() -> None:
    mac = "<interface type='bridge'><mac address='52:54:00:aa:00:01'/></interface>"
    twins = [an_owner("a", host, mac, uuid="same") for host in ("kvm01", "kvm02")]
    assert collisions(twins) == ()


@pytest.mark.parametrize("device", [device for device in HELD if HELD[device]])
def test_a_clone_shares_nothing_with_its_source_but_what_the_table_tells(device: str) -> None:
    text = a_vm("web").with_device(device).xml()
    before, after = (resources(without(each, TOLD)) for each in (text, clone_of(text)))

    assert not before & after


@pytest.mark.parametrize(
    ("nvram", "held"),
    [
        ("<nvram>/n/web</nvram>", "file /n/web"),
        ("<nvram type='file'><source file='/n/web'/></nvram>", "file /n/web"),
        ("<nvram type='block'><source dev='/dev/v'/></nvram>", "firmware variables /dev/v"),
        (
            "<nvram type='network'><source protocol='nbd' name='w'/></nvram>",
            "firmware variables nbd:/w",
        ),
    ],
)
def test_firmware_variables_are_held(nvram: str, held: str) -> None:
    text = a_vm().xml().replace("</os>", f"{nvram}</os>")

    assert {str(each) for each in resources(text)} == {held}
