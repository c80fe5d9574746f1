"""A VM on its way from lab1 to lab2, each host behind a wire; it is watched for running twice."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import libvirt

from tests.host.wire import Wire
from tests.host.world import MIB, Disk, World
from twinship.controller import Controller
from twinship.model.host import HostRecord
from twinship.model.operation import Operation, OperationState
from twinship.model.request import MigrateMode, MigrateRequest
from twinship_lab import LabHost

MODES = {
    "live, with disks": (MigrateMode.LIVE, False),
    "offline": (MigrateMode.OFFLINE, False),
    "live, shared": (MigrateMode.LIVE, True),
    "non-live": (MigrateMode.NON_LIVE, False),
}
NAME = "web"


@dataclass
class Moved:
    """The VM ``web`` of lab1, with a disk of 4 MiB of data or a shared one."""

    world: World
    mode: str
    wires: dict[str, Wire] = field(default_factory=dict)
    twice: list[float] = field(default_factory=list)
    uuid: str = ""
    sha: str = ""

    @property
    def shared(self) -> bool:
        return MODES[self.mode][1]

    @property
    def running(self) -> bool:
        return self.mode != "offline"

    def make(self) -> None:
        """Defines and starts it."""
        world = self.world
        if self.shared:
            disk = world.lab.share("matrix", 8 * MIB)
            extra = (
                "<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none'/>"
                f"<source protocol='nbd' name='{disk.export}'>"
                f"<host name='{disk.host}' port='{disk.port}'/></source>"
                "<target dev='vda' bus='virtio'/></disk>"
            )
            self.uuid = world.make_vm(world.one, NAME, extra=extra, start=True)
            return
        file = Disk(file="web.qcow2")
        self.uuid = world.make_vm(world.one, NAME, file, start=self.running)
        self.sha = world.sha(world.one, "web.qcow2")

    def move(self, **asked: object) -> Operation:
        """Moves it, through the wires, to the operation's end or until nobody waits any longer."""
        with self.controller() as controller, self._watched():
            request = MigrateRequest(
                vm="lab1/web",
                target="lab2",
                mode=MODES[self.mode][0],
                **asked,  # type: ignore[arg-type]
            )
            return controller.migrate(request)

    def controller(self) -> Controller:
        """Its own, which is soon sure that a host does not answer."""
        config = replace(
            self.world.config, keepalive_interval_s=1, keepalive_count=2, connect_timeout_s=2
        )
        return Controller(config, local=False)

    def settled(self) -> Operation:
        """The operation, after the next command has done what it does first."""
        self.world.resume_all()
        return self.world.operations()[0]

    def assert_one_copy(self, *, died: bool = False) -> str:
        """Which way it went; fails unless there is one whole copy, and nothing else."""
        world = self.world
        one, two = world.vms(world.one), world.vms(world.two)
        assert self.twice == [], f"it ran twice, for {len(self.twice)} looks"
        state = "running" if self.running else "shut off"
        if died and "shut off" in (one | two).values():
            state = "shut off"
        assert (one, two) in [({NAME: state}, {}), ({}, {NAME: state})]
        files = set() if self.shared else {"web.qcow2"}
        assert world.files(world.one) == files, "the source's files are never touched"
        if one:
            assert world.files(world.two) == set()
            return "home"
        assert world.files(world.two) == files
        if files:
            pair = [str(host.images / "web.qcow2") for host in (world.one, world.two)]
            done = subprocess.run(
                ["qemu-img", "compare", "-U", *pair], capture_output=True, check=False
            )
            assert done.returncode == 0, done.stdout
        return "moved"

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Looks at both hosts all the time, past the wires."""
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(over,))
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _watch(self, over: threading.Event) -> None:
        eyes = [_Eye(host, self.uuid) for host in (self.world.one, self.world.two)]
        while not over.wait(0.02):
            if all(eye.runs() for eye in (*eyes, eyes[0])):
                self.twice.append(time.monotonic())
        for eye in eyes:
            eye.close()


class _Eye:
    """Whether the VM runs on one host; one that cannot be asked shows nothing."""

    def __init__(self, host: LabHost, uuid: str) -> None:
        self._host, self._uuid = host, uuid
        self._raw: libvirt.virConnect | None = None

    def runs(self) -> bool:
        try:
            if self._raw is None:
                self._raw = libvirt.open(self._host.uri)
            state = self._raw.lookupByUUIDString(self._uuid).state(0)[0]
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                self.close()
            return False
        return bool(state == libvirt.VIR_DOMAIN_RUNNING)

    def close(self) -> None:
        if self._raw is not None:
            raw, self._raw = self._raw, None
            try:
                raw.close()
            except libvirt.libvirtError:
                return


@contextmanager
def wired(world: World, mode: str, directory: Path) -> Iterator[Moved]:
    """Makes the VM, and puts a wire before each host."""
    moved = Moved(world, mode)
    with ExitStack() as stack:
        for host in (world.one, world.two):
            wire = Wire(directory / host.name, host.socket)
            moved.wires[host.name] = stack.enter_context(wire)
        with world.controller() as controller:
            for host in (world.one, world.two):
                controller.inventory.remove(host.name)
                uri = moved.wires[host.name].uri
                controller.inventory.add(HostRecord(name=host.name, uri=uri, address=host.address))
        moved.make()
        yield moved


def waiting(world: World, seconds: float = 30) -> bool:
    """Until the newest operation waits for a host (True) or has ended (False)."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = world.operations()[0].state
        if state is OperationState.WAITING or state.ended:
            return state is OperationState.WAITING
        time.sleep(0.1)
    return False
