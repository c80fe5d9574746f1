"""A verb on one VM, the lines of its journal, and what has to hold whatever cut it off."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tests.host.guests import content, guest_disk, text_of
from tests.host.world import IMAGES, MIB, NVRAM, Disk, World
from twinship.model.operation import OperationState
from twinship_lab import LabHost
from twinship_lab.guests import GuestSpec, create_guest

Step = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is done while the worker stands still, and after it was let go on."""

    make: Callable[[World, subprocess.Popen[str]], None]
    mend: Callable[[World], None] | None = None
    kills_qemu: bool = False
    lease_s: float = 20.0
    wakes: bool = True


def wait_until_stopped(process: subprocess.Popen[str]) -> None:
    """Until it has sent SIGSTOP to itself; fails if it ends without."""
    deadline = time.monotonic() + 60
    while True:
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "T":
            return
        if state == "Z" or time.monotonic() > deadline:
            os.kill(process.pid, signal.SIGKILL)
            _, errors = process.communicate()
            raise AssertionError(f"the moment never came: {process.returncode} {errors}")
        time.sleep(0.01)


@dataclass(frozen=True)
class Story:
    """A verb on a VM ``web`` of lab1, and what has to hold after any crash."""

    world: World
    verb: str
    running: bool
    shared: bool = False
    guest: bool = False
    rich: bool = False

    @property
    def request(self) -> dict[str, Any]:
        if self.verb == "seal":
            return {"vms": ["lab1/web"]}
        if self.verb == "template":
            return {"vm": "lab1/web", "name": "golden"}
        if self.verb == "clone":
            return {"vm": "lab1/web", "name": "web-2"}
        return {"vm": "lab1/web", "target": "lab2"}

    def set_up(self) -> None:
        self.world.clean()
        if self.shared:
            disk = self.world.lab.share("web", 8 * MIB)
            spec = GuestSpec(memory_mib=128, shared=(disk,), start=True)
            create_guest(self.world.one, self.world.lab.cache, "web", spec)
        elif self.guest:
            with tempfile.TemporaryDirectory() as work:
                path = guest_disk(self.world.one, "web.qcow2", Path(work))
            self.world.make_vm(self.world.one, "web", disks_at=((path, "qcow2"),))
        elif self.rich:
            self._set_up_rich()
        else:
            disk_file = Disk(file="web.qcow2", data_bytes=4 * MIB)
            self.world.make_vm(self.world.one, "web", disk_file, start=self.running)

    def _set_up_rich(self) -> None:
        """A chain, firmware variables, and a snapshot that made the top of the chain."""
        world = self.world
        for host in (world.one, world.two):
            host.outside(NVRAM).mkdir(parents=True, exist_ok=True)
        (world.one.outside(NVRAM) / "web_VARS.fd").write_bytes(b"variables" * 1000)
        world.make_disk(world.one, Disk(file="base.qcow2"))
        over = Disk(file="web.qcow2", base=f"{IMAGES}/base.qcow2", data_bytes=MIB)
        world.make_vm(world.one, "web", over, variables=f"{NVRAM}/web_VARS.fd")
        disk = f"vda,file={IMAGES}/web.over"
        snapshot = ["virsh", "-q", "snapshot-create-as", "web", "before", "--disk-only"]
        world.one.run([*snapshot, "--diskspec", disk])

    def check(self, before: str, *, died: bool = False) -> str:
        """Which way it went; fails unless exactly one copy is there, whole, and nothing else.

        ``died``: its QEMU was killed, so that it may be shut off.
        """
        one, two = self.world.vms(self.world.one), self.world.vms(self.world.two)
        state = "running" if self.running else "shut off"
        if died and "shut off" in (one | two).values():
            state = "shut off"
        files = set() if self.shared else {"web.qcow2"}
        if self.rich:
            files |= {"base.qcow2", "web.over"}
        if self.verb == "seal":
            return self._check_seal(before)
        if self.verb == "template":
            return self._check_template(one, before)
        if self.verb == "clone":
            return self._check_clone(one, before)
        assert (one, two) in [({"web": state}, {}), ({}, {"web": state})]
        assert self.world.files(self.world.one) == files, "the source's files are never touched"
        if one:
            assert self.world.files(self.world.two) == set()
        else:
            assert self.world.files(self.world.two) == files
            if self.rich:
                assert self.world.sha(self.world.two, "web.qcow2") == before
            elif files:
                self._same_content("web.qcow2", "web.qcow2")
        if self.rich:
            self._check_rich(self.world.one if one else self.world.two)
        if not self.running:
            assert self.world.sha(self.world.one, "web.qcow2") == before
        return "undone" if one else "done"

    def _check_rich(self, home: LabHost) -> None:
        """What it had besides its disk is where it is, and nowhere else but left behind."""
        listed = home.run(["virsh", "snapshot-list", "web", "--name"]).stdout.decode().split()
        assert listed == ["before"]
        for file in ("base.qcow2", "web.over"):
            assert self.world.sha(home, file) == self.world.sha(self.world.one, file)
        variables = [host.outside(NVRAM) / "web_VARS.fd" for host in (self.world.one, home)]
        assert variables[0].read_bytes() == variables[1].read_bytes()
        if home is self.world.one:
            assert not (self.world.two.outside(NVRAM) / "web_VARS.fd").exists()

    def _check_clone(self, one: dict[str, str], before: str) -> str:
        assert self.world.sha(self.world.one, "web.qcow2") == before
        state = one.pop("web")
        assert state == "shut off" or self.running
        shown = self.world.one.run(["virsh", "domblklist", "web"]).stdout.decode()
        assert "twinship" not in shown, "it is on its own disk"
        if not one:
            assert self.world.files(self.world.one) == {"web.qcow2"}
            return "undone"
        assert one == {"web-2": "shut off"}
        assert self.world.sha(self.world.one, "web-2.qcow2") == before
        return "done"

    def _check_seal(self, before: str) -> str:
        disk = f"{IMAGES}/web.qcow2"
        if self.world.files(self.world.one) == {"web.qcow2"}:
            assert content(self.world.one, disk) == before
            return "undone"
        with self.world.controller() as controller:
            assert controller.unseal("lab1/web").state is OperationState.SUCCEEDED
        assert content(self.world.one, disk) == before, "what it had was kept"
        assert self.world.files(self.world.one) == {"web.qcow2"}
        return "done"

    def _check_template(self, one: dict[str, str], before: str) -> str:
        assert content(self.world.one, f"{IMAGES}/web.qcow2") == before
        if one == {"web": "shut off"}:
            assert self.world.files(self.world.one) == {"web.qcow2"}
            return "undone"
        assert one == {"web": "shut off", "golden": "shut off"}
        with tempfile.TemporaryDirectory() as work:
            golden = f"{IMAGES}/golden.qcow2"
            assert text_of(self.world.one, golden, "/etc/machine-id", Path(work)) == ""
        return "done"

    def _same_content(self, one: str, two: str) -> None:
        files = [str(self.world.one.images / one), str(self.world.two.images / two)]
        compare = ["qemu-img", "compare", "-U", *files]
        assert subprocess.run(compare, check=False, capture_output=True).returncode == 0

    def sha(self) -> str:
        if self.guest:
            return content(self.world.one, f"{IMAGES}/web.qcow2")
        return "" if self.shared else self.world.sha(self.world.one, "web.qcow2")

    def steps(self) -> list[Step]:
        """The journal of a real run, each line once."""
        self.set_up()
        never = self.world.actor(
            verb=self.verb, request=self.request, deed="kill", write=["no", "such"], when="after"
        )
        never.communicate(timeout=60)
        assert never.returncode == 99
        operation = self.world.operations()[0]
        assert operation.state is OperationState.SUCCEEDED
        events = self.world.history(operation.id)
        return list(dict.fromkeys((event.kind, event.phase) for event in events))

    def trouble(self, step: Step, fault: Fault) -> str:
        """Stops the worker there, makes trouble, lets it go on; which way it went."""
        self.set_up()
        before = self.sha()
        process = self.world.actor(
            verb=self.verb,
            request=self.request,
            deed="stop",
            write=step,
            when="after",
            lease_s=fault.lease_s,
        )
        wait_until_stopped(process)
        fault.make(self.world, process)
        if fault.wakes:
            process.send_signal(signal.SIGCONT)
        if fault.mend is not None:
            fault.mend(self.world)
        process.communicate(timeout=180)
        self.world.mend()
        self.world.resume_all()
        left = [op for op in self.world.operations() if op.state is OperationState.NEEDS_ATTENTION]
        assert not left, f"{step}: {left[0].waiting_for}"
        went = self.check(before, died=fault.kills_qemu)
        self.world.assert_nothing_left()
        return went

    def crash(self, step: Step, when: str) -> str:
        """Kills the worker there, recovers, checks; which way it went."""
        self.set_up()
        before = self.sha()
        process = self.world.actor(
            verb=self.verb, request=self.request, deed="kill", write=step, when=when
        )
        _, errors = process.communicate(timeout=60)
        assert process.returncode == -9, f"{step} was not hit: {process.returncode} {errors}"
        self.world.resume_all()
        went = self.check(before)
        self.world.assert_nothing_left()
        return went


@dataclass(frozen=True)
class ManyMoves:
    """Three VMs of lab1 that move together: shut off, running with a disk, running without."""

    world: World

    STATES: ClassVar[dict[str, str]] = {"off": "shut off", "db": "running", "app": "running"}

    def set_up(self) -> str:
        """Makes them; returns the digest of the disk of the one that is shut off."""
        self.world.clean()
        self.world.make_vm(self.world.one, "off", Disk(file="off.qcow2", data_bytes=MIB))
        self.world.make_vm(self.world.one, "db", Disk(file="db.qcow2", data_bytes=MIB), start=True)
        self.world.make_vm(self.world.one, "app", start=True)
        return self.world.sha(self.world.one, "off.qcow2")

    def steps(self) -> list[tuple[Step, int]]:
        """The lines of the journals of all, parent and children, each with which of its like."""
        self.set_up()
        never = self.act("kill", (("no", "such"), 1), "after")
        never.communicate(timeout=120)
        assert never.returncode == 99
        with self.world.controller() as controller:
            every = controller.operation_list(children=True)
            counted = Counter(
                (event.kind, event.phase)
                for op in every
                for event in controller.operation_log(op.id)
                # How often one waits for a place is not the same twice.
                if event.kind != "queued"
            )
        return [(step, nth) for step, count in counted.items() for nth in range(1, count + 1)]

    def act(self, deed: str, at: tuple[Step, int], when: str) -> subprocess.Popen[str]:
        """Starts the move of all in a process that does the deed there."""
        step, nth = at
        request = {"vms": list(self.STATES), "target": "lab2"}
        order: dict[str, Any] = {"write": step, "nth": nth, "when": when}
        return self.world.actor(verb="moves", request=request, deed=deed, **order)

    def crash(self, at: tuple[Step, int], when: str) -> int:
        """Kills the worker there, recovers; how many arrived. Fails unless each is on one host."""
        before = self.set_up()
        process = self.act("kill", at, when)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == -9, f"{at} was not hit: {process.returncode} {errors}"
        self.world.resume_all()
        one, two = self.world.vms(self.world.one), self.world.vms(self.world.two)
        assert one | two == self.STATES, f"{at} {when}: {one} {two}"
        assert not set(one) & set(two), f"{at} {when}: {one} {two}"
        disks = {f"{name}.qcow2" for name in two if name != "app"}
        assert self.world.files(self.world.two) == disks, "copies of those that arrived, no others"
        assert self.world.files(self.world.one) == {"off.qcow2", "db.qcow2"}
        there = self.world.two if "off" in two else self.world.one
        assert self.world.sha(there, "off.qcow2") == before
        with self.world.controller() as controller:
            every = controller.operation_list(children=True)
            assert all(op.state.ended for op in every), at
            assert not [op for op in every if op.state is OperationState.NEEDS_ATTENTION], at
        self.world.assert_nothing_left()
        return len(two)


STORIES: dict[str, dict[str, Any]] = {
    "clone": {"verb": "clone", "running": False},
    "clone of a running VM": {"verb": "clone", "running": True},
    "seal": {"verb": "seal", "running": False, "guest": True},
    "template": {"verb": "template", "running": False, "guest": True},
    "offline move": {"verb": "migrate", "running": False},
    "offline move with belongings": {"verb": "migrate", "running": False, "rich": True},
    "live move with disks": {"verb": "migrate", "running": True},
    "live move": {"verb": "migrate", "running": True, "shared": True},
}
