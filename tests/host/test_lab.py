"""The lab's hosts are real: they move guests, their links are shaped and cut, nothing is left."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from twinship.cli.lab import lab as lab_command
from twinship.model.errors import NotFound
from twinship_lab import DaemonAction, DaemonState, Lab, LabError, LabHost, Link, Unknown
from twinship_lab.network import namespace_prefix
from twinship_lab.state import DIRECTORY_VARIABLE, lab_id

pytestmark = pytest.mark.host

ROM_GUEST = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>32</memory>
  <vcpu>1</vcpu>
  <os {os_attributes}><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    {devices}
  </devices>
</domain>
"""

RECEIVE = """
import socket, time
server = socket.create_server(("0.0.0.0", 7777))
print("listening", flush=True)
connection, _ = server.accept()
first, count = None, 0
while data := connection.recv(1 << 20):
    first = first or time.monotonic()
    count += len(data)
    print(count, flush=True)
print("rate", count / (time.monotonic() - first), flush=True)
"""

SEND = """
import socket, sys
connection = socket.create_connection((sys.argv[1], 7777))
for _ in range(int(sys.argv[2])):
    connection.sendall(bytes(1_000_000))
"""


@contextmanager
def a_lab() -> Iterator[Lab]:
    """A lab in a directory of its own, gone afterwards. The path is short: sockets need that."""
    root = Path(tempfile.mkdtemp(prefix="twl"))
    lab = Lab(root)
    try:
        yield lab
    finally:
        lab.down()
        shutil.rmtree(root)


@pytest.fixture(scope="module")
def shared_lab() -> Iterator[Lab]:
    with a_lab() as lab:
        lab.up(2)
        yield lab


@pytest.fixture
def lab(shared_lab: Lab) -> Iterator[Lab]:
    """The module's lab, every host well and without guests before and after."""
    yield shared_lab
    for host in shared_lab.up(2):
        host.link(unlimited=True)
        for name in virsh(host, "list", "--all", "--name").split():
            virsh(host, "destroy", name, check=False)
            virsh(host, "undefine", name, "--nvram", "--tpm", check=False)


def virsh(host: LabHost, *arguments: str, check: bool = True, timeout_s: float = 60) -> str:
    """virsh from the root namespace, through the control link."""
    done = subprocess.run(
        ["virsh", "--connect", host.uri, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


def start_guest(host: LabHost, name: str, *, os_attributes: str = "", devices: str = "") -> None:
    """Define and start a guest without an OS: its firmware runs, which is enough to move."""
    xml = ROM_GUEST.format(name=name, os_attributes=os_attributes, devices=devices)
    file = host.images / f"{name}.xml"
    file.write_text(xml)
    virsh(host, "define", str(file))
    virsh(host, "start", name)


def traces(lab: Lab) -> list[str]:
    """Whatever still bears the lab's mark: processes, namespaces, mounts, files."""
    prefix, root = namespace_prefix(lab_id(lab.root)), str(lab.root)
    found = [path.name for path in Path("/run/netns").glob(f"{prefix}*")]
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"{root}/" in command and int(directory.name) != os.getpid():
            found.append(command.replace("\0", " "))
    mounts = Path("/proc/self/mounts").read_text()
    found += [line for line in mounts.splitlines() if prefix in line or root in line]
    found += [path.name for path in lab.root.iterdir() if path.name not in ("cache", "lock")]
    return found


def test_three_hosts_are_up_in_seconds_and_a_second_up_keeps_them() -> None:
    with a_lab() as lab:
        begun = time.monotonic()
        hosts = lab.up(3)
        assert time.monotonic() - begun < 15
        inits = [host.init() for host in hosts]
        assert lab.up(2) == hosts
        assert [host.init() for host in hosts] == inits
        assert [host.daemon_state() for host in hosts] == [DaemonState.RUNNING] * 3


def test_a_host_is_added_to_a_running_lab_and_known_by_name_to_the_others() -> None:
    with a_lab() as lab:
        lab.up(1)
        _, second = lab.up(2)
        answer = lab.host("lab1").run(["virsh", "-c", "qemu+tcp://lab2/system", "hostname"])
        assert answer.text.strip() == second.name


def test_every_host_has_its_own_name_uuid_pool_and_files(lab: Lab) -> None:
    uuids = set()
    for host in lab.hosts():
        assert host.run(["hostname"]).text == host.name
        assert virsh(host, "hostname") == host.name
        assert "running" in virsh(host, "pool-info", "default")
        virsh(host, "vol-create-as", "default", f"{host.name}.raw", "1MiB")
        assert [path.name for path in host.images.glob("*.raw")] == [f"{host.name}.raw"]
        virsh(host, "vol-delete", f"{host.name}.raw", "default")
        uuids.add(virsh(host, "capabilities").split("<uuid>")[1].split("</uuid>")[0])
    assert len(uuids) == 2


def test_nothing_of_the_network_is_in_the_root_namespace(lab: Lab) -> None:
    network = lab.status().network
    assert network is not None
    shown = subprocess.run(["ip", "address"], capture_output=True, text=True, check=True).stdout
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    assert network.rsplit(".", 1)[0] not in shown + routes
    # A gateway may accept or drop the connection; libvirtd must not be behind it.
    tcp = ["timeout", "3", "virsh", "-c", lab.host("lab1").tcp_uri, "hostname"]
    assert subprocess.run(tcp, capture_output=True, check=False).returncode != 0


def test_a_program_on_a_host_gets_input_and_gives_its_exit_code(lab: Lab) -> None:
    host = lab.host("lab1")
    assert host.run(["cat"], input=b"hello").stdout == b"hello"
    assert host.run(["sh", "-c", "exit 7"], check=False).returncode == 7
    with pytest.raises(LabError, match="said something"):
        host.run(["sh", "-c", "echo said something >&2; exit 1"])


def test_a_program_that_takes_too_long_is_gone_from_the_host(lab: Lab) -> None:
    host = lab.host("lab1")
    with pytest.raises(LabError, match="within"):
        host.run(["sleep", "4321"], timeout_s=0.3)
    process = host.popen(["sleep", "4321"])
    eventually(lambda: sleeping(host))
    process.kill()
    process.communicate()
    eventually(lambda: not sleeping(host))


def sleeping(host: LabHost) -> bool:
    return b"sleep 4321" in host.run(["ps", "-eo", "args"]).stdout


def test_an_unknown_host_is_answered_with_those_there_are(lab: Lab) -> None:
    with pytest.raises(Unknown) as caught:
        lab.host("kvm7")
    assert "lab1, lab2" in caught.value.hint


def test_a_guest_moves_live_through_the_relays(lab: Lab) -> None:
    source, target = lab.hosts()
    start_guest(source, "mover")
    way = ["--live", "--persistent", "--undefinesource", "mover", target.uri]
    virsh(source, "migrate", *way, "--migrateuri", f"tcp://{target.address}")
    assert virsh(target, "domstate", "mover") == "running"
    assert virsh(source, "list", "--all", "--name") == ""


def test_a_guest_moves_live_peer_to_peer(lab: Lab) -> None:
    source, target = lab.hosts()
    start_guest(source, "mover")
    way = ["--live", "--p2p", "--persistent", "--undefinesource", "mover"]
    virsh(source, "migrate", *way, target.tcp_uri)
    assert virsh(target, "domstate", "mover") == "running"
    assert virsh(source, "list", "--all", "--name") == ""


def test_a_guest_on_a_shared_disk_moves_without_being_called_unsafe(lab: Lab) -> None:
    source, target = lab.hosts()
    disk = lab.share("data", 16 * 2**20)
    xml = f"""
      <disk type='network' device='disk'>
        <driver name='qemu' type='raw' cache='none'/>
        <source protocol='nbd' name='{disk.export}'>
          <host name='{disk.host}' port='{disk.port}'/>
        </source>
        <target dev='vda' bus='virtio'/>
      </disk>"""
    start_guest(source, "mover", devices=xml)
    virsh(source, "migrate", "--live", "mover", target.uri)
    assert virsh(target, "domstate", "mover") == "running"
    virsh(target, "destroy", "mover")
    assert disk.path.stat().st_size == 16 * 2**20
    lab.unshare("data")
    assert not disk.path.exists()


def test_a_guest_with_uefi_and_a_tpm_starts(lab: Lab) -> None:
    tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
    start_guest(lab.host("lab1"), "secure", os_attributes="firmware='efi'", devices=tpm)
    assert virsh(lab.host("lab1"), "domstate", "secure") == "running"


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_a_shaped_link_has_its_rate_in_both_directions(lab: Lab, direction: str) -> None:
    shaped, other = lab.hosts()
    shaped.link(rate_bytes_s=20_000_000)
    sender, receiver = (shaped, other) if direction == "upload" else (other, shaped)
    with transfer(sender, receiver, megabytes=40) as receiving:
        assert receiving.stdout is not None
        last = receiving.stdout.read().split()[-1]
    assert 18_500_000 < float(last) < 20_500_000


def test_a_cut_data_link_stalls_a_transfer_which_goes_on_when_it_is_mended(lab: Lab) -> None:
    sender, receiver = lab.hosts()
    sender.link(rate_bytes_s=10_000_000)
    with transfer(sender, receiver, megabytes=20) as receiving:
        assert receiving.stdout is not None
        receiving.stdout.readline()
        sender.link(up=False)
        assert not lab.status().hosts[0].data_up
        # Through the control link the cut host still answers.
        assert virsh(sender, "hostname") == "lab1"
        eventually(lambda: silent(receiving, for_s=0.7))
        sender.link(up=True)
        assert receiving.stdout.read().split()[-2] == b"rate"


def silent(process: subprocess.Popen[bytes], *, for_s: float) -> bool:
    """Whether the process writes nothing for a while; what it wrote before is read away."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], for_s)
    return not (readable and os.read(process.stdout.fileno(), 65536))


@contextmanager
def transfer(
    sender: LabHost, receiver: LabHost, *, megabytes: int
) -> Iterator[subprocess.Popen[bytes]]:
    receiving = receiver.popen([sys.executable, "-c", RECEIVE])
    assert receiving.stdout is not None
    receiving.stdout.readline()
    address, count = receiver.address, str(megabytes)
    sending = sender.popen([sys.executable, "-c", SEND, address, count])
    try:
        yield receiving
    finally:
        for process in (sending, receiving):
            process.kill()
            process.communicate()


def test_a_cut_control_link_hangs_callers_and_leaves_the_guests_and_data_alone(lab: Lab) -> None:
    host, other = lab.hosts()
    start_guest(host, "stays")
    host.link(which=Link.CONTROL, up=False)
    with pytest.raises(subprocess.TimeoutExpired):
        virsh(host, "hostname", timeout_s=0.5)
    assert other.run(["virsh", "-c", host.tcp_uri, "domstate", "stays"]).text.strip() == "running"
    waiting = subprocess.Popen(["virsh", "-c", host.uri, "hostname"], stdout=subprocess.PIPE)
    seen = lab.status().hosts[0]
    assert (seen.control_up, seen.data_up, seen.guests) == (False, True, 1)
    host.link(which=Link.CONTROL, up=True)
    assert waiting.communicate(timeout=10)[0].strip() == b"lab1"


def test_a_killed_daemon_leaves_its_guests_and_finds_them_when_started(lab: Lab) -> None:
    host = lab.host("lab1")
    start_guest(host, "stays")
    host.daemon(DaemonAction.KILL)
    seen = lab.status().hosts[0]
    assert (seen.daemon, seen.guests) == (DaemonState.STOPPED, 1)
    host.daemon(DaemonAction.START)
    assert virsh(host, "domstate", "stays") == "running"


def test_a_stopped_daemon_is_gone_and_comes_back(lab: Lab) -> None:
    host = lab.host("lab1")
    host.daemon(DaemonAction.STOP)
    assert host.daemon_state() is DaemonState.STOPPED
    host.daemon(DaemonAction.STOP)
    host.daemon(DaemonAction.START)
    assert virsh(host, "hostname") == "lab1"


def test_a_frozen_daemon_answers_nobody_until_thawed(lab: Lab) -> None:
    host = lab.host("lab1")
    host.daemon(DaemonAction.FREEZE)
    assert lab.status().hosts[0].daemon is DaemonState.FROZEN
    with pytest.raises(subprocess.TimeoutExpired):
        virsh(host, "hostname", timeout_s=0.5)
    host.daemon(DaemonAction.THAW)
    assert virsh(host, "hostname") == "lab1"


def test_up_mends_what_was_troubled_and_keeps_the_guests(lab: Lab) -> None:
    one, two = lab.hosts()
    start_guest(one, "stays")
    one.daemon(DaemonAction.KILL)
    two.daemon(DaemonAction.FREEZE)
    two.link(which=Link.BOTH, up=False)
    lab.up(2)
    assert virsh(one, "domstate", "stays") == "running"
    assert virsh(two, "hostname") == "lab2"
    assert lab.status().hosts[1].data_up


def test_a_host_that_died_boots_again_with_its_images(lab: Lab) -> None:
    host = lab.host("lab1")
    (host.images / "kept.raw").touch()
    init = host.init()
    assert init is not None
    os.kill(init.pid, signal.SIGKILL)
    eventually(lambda: not lab.status().hosts[0].up)
    lab.up(2)
    assert virsh(host, "vol-list", "default").count("kept.raw") > 0
    (host.images / "kept.raw").unlink()


def test_down_leaves_only_the_cache_even_of_frozen_things() -> None:
    with a_lab() as lab:
        one, two = lab.up(2)
        (lab.cache / "kernel").touch()
        lab.share("data", 2**20)
        start_guest(one, "stays")
        one.daemon(DaemonAction.FREEZE)
        two.link(which=Link.BOTH, up=False)
        begun = time.monotonic()
        lab.down()
        assert time.monotonic() - begun < 10
        assert traces(lab) == []
        assert (lab.cache / "kernel").exists()
        lab.down()


@pytest.mark.parametrize("after_s", [0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.4])
def test_down_removes_what_a_killed_up_left(after_s: float) -> None:
    program = "import sys; from pathlib import Path; from twinship_lab import Lab\n"
    program += "Lab(Path(sys.argv[1])).up(3)"
    with a_lab() as lab:
        starting = subprocess.Popen([sys.executable, "-c", program, str(lab.root)])
        time.sleep(after_s)  # the moment at which it is killed, not a wait for anything
        starting.kill()
        starting.wait()
        lab.down()
        assert traces(lab) == []


def test_an_up_after_a_killed_up_completes_it() -> None:
    program = "import sys; from pathlib import Path; from twinship_lab import Lab\n"
    program += "Lab(Path(sys.argv[1])).up(2)"
    with a_lab() as lab:
        starting = subprocess.Popen([sys.executable, "-c", program, str(lab.root)])
        time.sleep(0.2)  # the moment at which it is killed
        starting.kill()
        starting.wait()
        assert [virsh(host, "hostname") for host in lab.up(2)] == ["lab1", "lab2"]


def test_two_labs_live_side_by_side(lab: Lab) -> None:
    with a_lab() as second:
        second.up(1)
        assert virsh(second.host("lab1"), "hostname") == "lab1"
    assert virsh(lab.host("lab1"), "hostname") == "lab1"


def test_the_command_line_shows_and_troubles_the_lab(lab: Lab) -> None:
    host = lab.host("lab1")
    with_lab = {DIRECTORY_VARIABLE: str(lab.root)}

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(lab_command, list(arguments), env=with_lab)
        assert done.exception is None, done.exception
        return done.stdout

    call("link", "lab1", "--rate", "50MB/s")
    call("daemon", "lab1", "freeze")
    seen = json.loads(call("status", "-o", "json"))["hosts"][0]
    assert (seen["rate_bytes_s"], seen["daemon"]) == (50_000_000, "frozen")
    call("daemon", "lab1", "thaw")
    assert "running" in call("status")
    missing = CliRunner().invoke(lab_command, ["run", "lab9", "--", "true"], env=with_lab)
    assert isinstance(missing.exception, NotFound)
    exits = CliRunner().invoke(
        lab_command, ["run", host.name, "--", "sh", "-c", "exit 7"], env=with_lab
    )
    assert exits.exit_code == 7


def eventually(condition: object, within_s: float = 10) -> None:
    """Wait for ``condition()`` to hold; fail when it does not in time."""
    assert callable(condition)
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)
