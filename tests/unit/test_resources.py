"""What definitions hold that nobody else can hold, and who holds the same."""

from __future__ import annotations

import pytest
from lxml import etree

from tests.builders import a_vm
from twinship.domxml.identity import NewIdentity, renew
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
        "host device bus=3 domain=0"
    },
    "<hostdev type='mdev'><source><address uuid='x'/></source></hostdev>": {"host device uuid=x"},
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


ASKED = ("hostdev", "tcp", "udp", "floppy", "shmem", "filesystem", "memory", "disk")
"""What a clone keeps, and the plan warns of; disks are chosen one by one."""


@pytest.mark.parametrize("device", [d for d in HELD if HELD[d] and not any(a in d for a in ASKED)])
def test_a_clone_shares_nothing_with_its_source_but_what_the_plan_asks_about(device: str) -> None:
    text = a_vm("web").with_device(device).xml()
    root = etree.fromstring(text)
    macs = tuple(f"52:54:00:00:00:0{n}" for n in range(len(root.findall("devices/interface"))))
    renew(root, NewIdentity(old_name="web", name="b", uuid="u", genid="g", macs=macs))

    assert not resources(text) & resources(etree.tostring(root, encoding="unicode"))
