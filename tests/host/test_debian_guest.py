"""From an installed VM to clones: a real Debian guest is sealed, cloned, booted and asked."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.guests import content
from tests.host.world import IMAGES, World
from twinship_lab.guests import GuestSpec, create_guest
from twinship_lab.guests.debian import Identity, run_inside, wait_settled

pytestmark = pytest.mark.host

NETWORK = """<network><name>lan</name><bridge name='virbr8' delay='0'/><forward mode='open'/>
<ip address='192.0.2.1' prefix='24'><dhcp><range start='192.0.2.10' end='192.0.2.200'/></dhcp></ip>
</network>"""
BOOT_S = 240.0
LIVED_IN = r"""
set -e
hostnamectl hostname web1.example.org || echo web1.example.org > /etc/hostname
echo 'mysql -psecret' > /root/.bash_history
mkdir -p /root/.ssh && echo 'host.example.org ssh-ed25519 AAAA' > /root/.ssh/known_hosts
echo 'ssh-ed25519 AAAA admin@example.org' > /root/.ssh/authorized_keys
echo 'a line' > /var/log/auth.log
mkdir -p /etc/iscsi && echo 'InitiatorName=iqn.1993-08.org.debian:01:abc' \
    > /etc/iscsi/initiatorname.iscsi
mkdir -p /root/.config && echo yes > /root/.config/gnome-initial-setup-done
echo mine > /srv/data
sync
"""
LEFT = r"""
for file in /root/.bash_history /root/.ssh/known_hosts /root/.config/gnome-initial-setup-done; do
    test -e $file && echo $file
done
cat /srv/data /root/.ssh/authorized_keys
"""


@pytest.fixture
def network(world: World) -> Iterator[str]:
    """A libvirt network that gives addresses."""
    world.one.run(["virsh", "-q", "net-define", "/dev/stdin"], input=NETWORK.encode())
    world.one.run(["virsh", "-q", "net-start", "lan"])
    yield "lan"
    world.clean()
    world.one.run(["virsh", "-q", "net-destroy", "lan"], check=False)
    world.one.run(["virsh", "-q", "net-undefine", "lan"])


def installed(world: World, network: str) -> Identity:
    """A Debian guest that has been used; it runs."""
    spec = GuestSpec(debian=True, network=network, start=True)
    create_guest(world.one, world.lab.cache, "installed", spec)
    wait_settled(world.one, "installed", within_s=BOOT_S)
    run_inside(world.one, "installed", ["/bin/sh", "-c", LIVED_IN])
    return wait_settled(world.one, "installed", within_s=30)


def differs_in_all(ones: list[Identity]) -> None:
    """No two of them have anything in common that is a guest's own."""
    for field in dataclasses.fields(Identity):
        values = [getattr(one, field.name) for one in ones]
        assert all(values), f"{field.name} is missing: {values}"
        assert len(set(values)) == len(ones), f"{field.name} is shared: {values}"
    keys = [key for one in ones for key in one.host_keys]
    assert len(set(keys)) == len(keys)


def key_pair(work: Path) -> Path:
    """A public key, for the clones' root."""
    file = work / "id"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me", "-f", file], check=True
    )
    return file.with_suffix(".pub")


def test_two_clones_of_a_sealed_debian_differ_in_all_that_is_a_guests_own(
    world: World, network: str, tmp_path: Path
) -> None:
    before = installed(world, network)

    made = world.cli("template", "create", "debian12", "--from", "installed", "-o", "json")
    assert made.returncode == 0, made.stdout + made.stderr
    seal = json.loads(made.stdout)["result"]["seal"]
    assert (seal["engine"], seal["guest"]["id"]) == ("user space", "debian")
    locked = content(world.one, f"{IMAGES}/debian12.qcow2")

    names = ["--count", "2", "--name", "c{n}", "--start"]
    cloned = world.cli("clone", "debian12", *names, "--ssh-key", str(key_pair(tmp_path)))
    assert cloned.returncode == 0, cloned.stderr
    clones = [wait_settled(world.one, name, within_s=BOOT_S) for name in ("c1", "c2")]

    differs_in_all([before, *clones])
    assert [one.hostname for one in clones] == ["c1", "c2"]
    for name, one in zip(("c1", "c2"), clones, strict=True):
        assert one.machine_id == one.product_uuid.replace("-", ""), "of the VM's own UUID"
        left = run_inside(world.one, name, ["/bin/sh", "-c", LEFT])
        assert left == "mine\nssh-ed25519 AAAA admin@example.org\n", "nothing else of it is left"
    assert content(world.one, f"{IMAGES}/debian12.qcow2") == locked


@pytest.mark.all
def test_the_first_key_reaches_a_guest_that_has_none(
    world: World, network: str, tmp_path: Path
) -> None:
    create_guest(world.one, world.lab.cache, "fresh", GuestSpec(debian=True, network=network))
    key = key_pair(tmp_path)
    words = ["--hostname", "web-7", "--ssh-key", str(key), "--start", "--wait-boot"]
    done = world.cli("clone", "fresh", "web7", *words, timeout_s=BOOT_S)
    assert done.returncode == 0, done.stderr

    found = wait_settled(world.one, "web7", within_s=BOOT_S)

    assert found.hostname == "web-7"
    known = run_inside(world.one, "web7", ["/bin/cat", "/root/.ssh/authorized_keys"])
    assert known == key.read_text()
    assert run_inside(world.one, "web7", ["/bin/cat", "/etc/hostname"]) == "web-7\n"


@pytest.mark.all
def test_twenty_clones_are_twenty_machines(world: World, network: str) -> None:
    before = installed(world, network)
    assert world.cli("vm", "stop", "installed", timeout_s=120).returncode == 0
    made = world.cli("template", "create", "debian12", "--from", "installed")
    assert made.returncode == 0, made.stderr
    names = [f"c{number}" for number in range(1, 21)]
    assert world.cli("clone", "debian12", "--count", "20", "--name", "c{n}").returncode == 0
    found = []
    for few in (names[at : at + 2] for at in range(0, 20, 2)):
        for name in few:
            started = world.cli("vm", "start", name)
            assert started.returncode == 0, started.stderr
        for name in few:
            found.append(wait_settled(world.one, name, within_s=2 * BOOT_S))
        for name in few:
            assert world.cli("vm", "stop", "--force", name).returncode == 0
    print({field: len(values) for field, values in tally(found).items()})
    differs_in_all([before, *found])


def tally(ones: list[Identity]) -> dict[str, set[object]]:
    """The distinct values of all that is a guest's own; of host keys, each key."""
    fields = [field.name for field in dataclasses.fields(Identity)]
    values: dict[str, set[object]] = {name: {getattr(one, name) for one in ones} for name in fields}
    return values | {"host_keys": {key for one in ones for key in one.host_keys}}
