"""The ROM guest: what it writes over and over is whole wherever it goes."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable

import pytest

from tests.host.world import MIB, World
from twinship.model.operation import OperationState
from twinship.model.request import MigrateRequest
from twinship_lab import LabError, LabHost
from twinship_lab.guests import GuestSpec, RomLoad, create_guest

pytestmark = pytest.mark.host

TICK = re.compile(r"tick (\d+) bad (\d+)")


def told(host: LabHost, name: str) -> str:
    """What the guest has printed on this host."""
    path = host.outside(f"/var/log/libvirt/{name}.console")
    return path.read_text(errors="replace") if path.exists() else ""


def ticks(host: LabHost, name: str) -> list[tuple[int, int]]:
    """Slots counted and bad pages, each time it said so."""
    return [(int(count), int(bad)) for count, bad in TICK.findall(told(host, name))]


def wait_until(seen: Callable[[], bool], seconds: float = 15) -> None:
    """Polls until it is seen."""
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, "not seen in time"
        time.sleep(0.05)


def make(world: World, load: RomLoad, memory_mib: int = 32) -> None:
    """A started ROM guest on lab1."""
    spec = GuestSpec(memory_mib=memory_mib, rom=load, start=True)
    create_guest(world.one, world.lab.cache, "strict", spec)
    wait_until(lambda: len(ticks(world.one, "strict")) >= 1)


def test_memory_that_is_being_written_over_arrives_whole(world: World) -> None:
    make(world, RomLoad(hot_bytes=8 * MIB, dirty_bytes_s=20 * MIB))

    with world.controller() as controller:
        moved = controller.migrate(MigrateRequest(vm="lab1/strict", target="lab2"))

    assert moved.state is OperationState.SUCCEEDED, moved.error
    before = ticks(world.one, "strict")[-1]
    wait_until(lambda: len(ticks(world.two, "strict")) >= 2)
    after = ticks(world.two, "strict")
    assert after[0][0] >= before[0], "it went on where it was"
    assert {bad for _, bad in after} == {0}
    assert "bad page" not in told(world.two, "strict")
    assert "ready" not in told(world.two, "strict"), "it was moved, not started anew"


def test_the_guest_tells_when_its_memory_is_not_what_it_wrote(world: World) -> None:
    make(world, RomLoad(hot_bytes=8 * MIB, dirty_bytes_s=20 * MIB))

    spoil(world.one, "strict", address=4 * MIB)

    wait_until(lambda: f"bad page at {4 * MIB}" in told(world.one, "strict"))
    wait_until(lambda: ticks(world.one, "strict")[-1][1] == 1)


def spoil(host: LabHost, name: str, *, address: int) -> None:
    """Writes over four bytes of a VM's memory through QEMU's debugger stub."""
    stub = "/run/libvirt/stub"
    serve = f"gdbserver unix:{stub},server=on,wait=off"
    host.run(["virsh", "-q", "qemu-monitor-command", name, "--hmp", serve])
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(10)
        wire.connect(str(host.outside(stub)))
        for command in (f"M{address:x},4:deadbeef", "D"):  # the VM stands still until D
            wire.sendall(f"${command}#{sum(command.encode()) % 256:02x}".encode())
            answer = b""
            while not answer.endswith(b"$OK#9a"):
                answer += wire.recv(100)
            wire.sendall(b"+")


def test_more_hot_memory_than_memory_is_refused(world: World) -> None:
    with pytest.raises(LabError, match="do not fit"):
        make(world, RomLoad(hot_bytes=64 * MIB), memory_mib=32)
