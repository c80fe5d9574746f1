"""DHCP reservations in a real libvirt network, and what a guest's SMBIOS shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.host.world import IMAGES, Disk, World
from twinship.clone.firstboot import FirstBoot, GuestFile, nocloud, oem_strings
from twinship.clone.seed import seed_image
from twinship.domxml.attachments import MOST_OEM_BYTES, with_oem_strings, with_seed
from twinship.domxml.settings import Join, NicChoice, with_memory, with_nic, with_vcpus
from twinship.hypervisor import networks, vms
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.networks import Reservation, Side
from twinship.model.errors import Conflict, Gone, UsageError

pytestmark = pytest.mark.host

NETWORK = """<network><name>made</name><bridge name='virbr9'/><forward mode='open'/>
<ip address='192.0.2.1' prefix='25'><dhcp><range start='192.0.2.10' end='192.0.2.20'/></dhcp></ip>
<ip address='192.0.2.129' prefix='25'/>
<ip family='ipv6' address='fd00:9::1' prefix='64'/></network>"""
WEB = Reservation(mac="52:54:00:aa:00:01", address="192.0.2.30", name="web1")


@pytest.fixture
def network(world: World) -> Iterator[str]:
    """A network that runs and is stored."""
    world.one.run(["virsh", "-q", "net-define", "/dev/stdin"], input=NETWORK.encode())
    world.one.run(["virsh", "-q", "net-start", "made"])
    yield "made"
    world.one.run(["virsh", "-q", "net-destroy", "made"], check=False)
    world.one.run(["virsh", "-q", "net-undefine", "made"])


@pytest.fixture
def host(world: World) -> Iterator[Connection]:
    """The first host."""
    with world.controller() as controller:
        yield controller.inventory.connection("lab1")


def shown(world: World, *options: str) -> int:
    """How often the network's definition names the reserved address."""
    text = world.one.run(["virsh", "net-dumpxml", "made", *options]).stdout.decode()
    return text.count(f"mac='{WEB.mac}' name='{WEB.name}' ip='{WEB.address}'")


def test_a_reservation_made_twice_is_there_once_and_undone_once(
    world: World, network: str, host: Connection
) -> None:
    assert networks.reserve(host, network, WEB) == (Side.LIVE, Side.CONFIG)
    assert networks.reserve(host, network, WEB) == ()
    assert (shown(world), shown(world, "--inactive")) == (1, 1)
    assert networks.reservations(host, network) == (WEB,)

    assert networks.release(host, network, WEB)
    assert not networks.release(host, network, WEB)
    assert (shown(world), shown(world, "--inactive")) == (0, 0)


def test_undo_leaves_the_side_that_was_there_before(
    world: World, network: str, host: Connection
) -> None:
    element = f"<host mac='{WEB.mac}' name='{WEB.name}' ip='{WEB.address}'/>"
    update = ["virsh", "-q", "net-update", "made", "add", "ip-dhcp-host", element, "--config"]
    world.one.run(update)

    made = networks.reserve(host, network, WEB)
    assert made == (Side.LIVE,)
    assert networks.release(host, network, WEB, made)

    assert (shown(world), shown(world, "--inactive")) == (0, 1)


def test_undo_leaves_what_somebody_has_changed(
    world: World, network: str, host: Connection
) -> None:
    networks.reserve(host, network, WEB)
    changed = Reservation(mac=WEB.mac, address=WEB.address, name="theirs")

    assert not networks.release(host, network, changed)

    assert networks.reservations(host, network) == (WEB,)


@pytest.mark.parametrize(
    "other",
    [
        Reservation(mac="52:54:00:AA:00:01", address="192.0.2.31", name="web2"),
        Reservation(mac="52:54:00:aa:00:02", address="192.0.2.30", name="web2"),
        Reservation(mac="52:54:00:aa:00:02", address="192.0.2.31", name="web1"),
    ],
)
def test_what_is_somebody_elses_is_a_conflict(
    network: str, host: Connection, other: Reservation
) -> None:
    networks.reserve(host, network, WEB)

    with pytest.raises(Conflict) as refused:
        networks.reserve(host, network, other)

    assert refused.value.code == "DHCP_RESERVED"
    assert networks.reservations(host, network) == (WEB,)


@pytest.mark.parametrize("address", ["192.0.2.200", "192.0.2.1", "198.51.100.7", "fd00:9::7"])
def test_an_address_that_is_not_served_is_refused(
    network: str, host: Connection, address: str
) -> None:
    with pytest.raises(UsageError) as refused:
        networks.reserve(host, network, Reservation(mac=WEB.mac, address=address))
    assert refused.value.code == "DHCP_ADDRESS"


def test_a_network_that_is_not_there_is_said_so(host: Connection) -> None:
    with pytest.raises(Gone) as refused:
        networks.reserve(host, "nowhere", WEB)
    assert refused.value.code == "NETWORK_MISSING"


def test_a_network_that_does_not_run_is_changed_for_its_next_start(
    world: World, network: str, host: Connection
) -> None:
    world.one.run(["virsh", "-q", "net-destroy", "made"])

    assert networks.reserve(host, network, WEB) == (Side.CONFIG,)

    world.one.run(["virsh", "-q", "net-start", "made"])
    assert shown(world) == 1


def test_first_boot_settings_reach_the_guests_smbios(world: World, host: Connection) -> None:
    """Up to our limit, which QEMU takes: the guest starts."""
    uuid = world.make_vm(world.one, "web")
    filler = GuestFile(path="/opt/filler", content=bytes(MOST_OEM_BYTES // 2))
    first = FirstBoot(hostname="web-1", files=(filler,))
    entries = oem_strings(first)

    vms.define(host, with_oem_strings(vms.facts(host, uuid).inactive_xml, entries))

    argv = world.one.run(["virsh", "domxml-to-native", "qemu-argv", "--domain", "web"]).stdout
    for entry in entries:
        assert f"value={entry}" in argv.decode()
    world.one.run(["virsh", "-q", "start", "web"])


def test_a_seed_and_other_settings_make_a_vm_that_starts(
    world: World, network: str, host: Connection
) -> None:
    nic = "<interface type='user'><mac address='52:54:00:01:02:03'/></interface>"
    uuid = world.make_vm(world.one, "web", Disk(file="web.qcow2"), extra=nic)
    image = seed_image(nocloud(FirstBoot(hostname="web-1"), uuid))
    (world.one.images / "web-seed.iso").write_bytes(image)

    text = vms.facts(host, uuid).inactive_xml
    text = with_vcpus(with_memory(text, 48 * 2**20), 3)
    text = with_nic(text, NicChoice(index=0, join=Join.NETWORK, name=network))
    text, target = with_seed(text, f"{IMAGES}/web-seed.iso")
    vms.define(host, text)
    world.one.run(["virsh", "-q", "start", "web"])

    info = world.one.run(["virsh", "dominfo", "web"]).stdout.decode()
    assert "CPU(s):         3" in info
    assert "Used memory:    49152 KiB" in info
    drives = world.one.run(["virsh", "domblklist", "web"]).stdout.decode().split()
    assert drives[drives.index(target) + 1] == f"{IMAGES}/web-seed.iso"
    nics = world.one.run(["virsh", "domiflist", "web"]).stdout.decode()
    assert "network" in nics
    assert "52:54:00:01:02:03" in nics
