"""Two lab hosts with the product on top, as the host tests see them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from twinship.config import Config
from twinship.controller import Controller
from twinship.model.host import HostRecord
from twinship.model.operation import Event, Operation, OperationState
from twinship_lab import DaemonAction, DaemonState, Lab, LabHost, Link

IMAGES = "/var/lib/libvirt/images"
NVRAM = "/var/lib/libvirt/qemu/nvram"
SWTPM = "/var/lib/libvirt/swtpm"
ACTOR = Path(__file__).with_name("actor.py")
MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk of a test VM. ``data_bytes`` random bytes are written at its start."""

    file: str
    format: str = "qcow2"
    size_bytes: int = 32 * MIB
    data_bytes: int = 4 * MIB
    options: tuple[str, ...] = ()
    base: str = ""


class World:
    """Two hosts, a state directory, and what a test does with them."""

    def __init__(self, lab: Lab, state: Path) -> None:
        self.lab = lab
        self.one, self.two = lab.host("lab1"), lab.host("lab2")
        self.state = state
        self.config = Config(
            state=state,
            connect_timeout_s=5,
            list_timeout_s=5,
            stall_s=6,
            settle_patience_s=20,
            link_waits_s=(0.5, 1.0, 2.0),
        )
        with self.controller() as controller:
            for host in (self.one, self.two):
                controller.inventory.add(
                    HostRecord(name=host.name, uri=host.uri, address=host.address)
                )

    def controller(self) -> Controller:
        """A controller on this world's own inventory."""
        return Controller(self.config, local=False)

    def cli(self, *words: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Runs the command line to its end."""
        return subprocess.run(
            [sys.executable, "-m", "twinship", *words],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start_cli(self, *words: str) -> subprocess.Popen[str]:
        """Starts the command line and leaves it running."""
        return subprocess.Popen(
            [sys.executable, "-m", "twinship", *words],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def act_at(
        self, phase: str, deed: str, verb: str, timeout_s: float = 60, **request: Any
    ) -> subprocess.CompletedProcess[str]:
        """Runs a verb in a process that does ``deed`` to itself as the phase begins."""
        process = self.actor(phase=phase, deed=deed, verb=verb, request=request)
        out, errors = process.communicate(timeout=timeout_s)
        return subprocess.CompletedProcess(process.args, process.returncode, out, errors)

    def actor(self, **order: Any) -> subprocess.Popen[str]:
        """Starts a process that runs a verb and does something to itself (see ``actor.py``)."""
        return subprocess.Popen(
            [sys.executable, str(ACTOR), str(self.state), json.dumps(order)],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def environment(self) -> dict[str, str]:
        """What the product's processes are started with."""
        return {**os.environ, "TWINSHIP_STATE_DIR": str(self.state)}

    def make_disk(self, host: LabHost, disk: Disk) -> Path:
        """Makes a disk's file on a host; returns where it is seen from outside."""
        path = f"{IMAGES}/{disk.file}"
        base = ["-b", disk.base, "-F", "qcow2"] if disk.base else []
        size = [] if disk.base else [str(disk.size_bytes)]
        host.run(["qemu-img", "create", "-q", "-f", disk.format, *base, *disk.options, path, *size])
        outside = host.outside(path)
        if disk.data_bytes:
            data = os.urandom(min(disk.data_bytes, disk.size_bytes))
            host.run(["tee", f"{IMAGES}/pattern"], input=data)
            write = f"write -q -s {IMAGES}/pattern 0 {len(data)}"
            host.run(["qemu-io", "-f", disk.format, "-c", write, path])
            host.run(["rm", f"{IMAGES}/pattern"])
        return outside

    def make_vm(
        self,
        host: LabHost,
        name: str,
        *disks: Disk,
        start: bool = False,
        extra: str = "",
        paths: tuple[str, ...] = (),
        disks_at: tuple[tuple[str, str], ...] = (),
        machine: str = "pc",
        uefi: bool = False,
        elements: str = "",
        variables: str = "",
    ) -> str:
        """Defines a VM without an operating system over new disks; returns its UUID.

        ``disks_at``: paths that are there already, each with its format. ``variables``: where
        those of a UEFI lie, which the VM then has.
        """
        for disk in disks:
            if not disk.base:
                self.make_disk(host, disk)
        for disk in disks:
            if disk.base:
                self.make_disk(host, disk)
        host.run(["virsh", "-q", "pool-refresh", "default"])
        shown = [(f"{IMAGES}/{disk.file}", disk.format) for disk in disks]
        shown += [*((path, "qcow2") for path in paths), *disks_at]
        drives = "".join(
            f"<disk type='file' device='disk'><driver name='qemu' type='{form}'/>"
            f"<source file={quoteattr(path)}/><target dev='vd{chr(97 + number)}' bus='virtio'/>"
            "</disk>"
            for number, (path, form) in enumerate(shown)
        )
        firmware = " firmware='efi'" if uefi else ""
        acpi = "<features><acpi/></features>" if uefi or variables else ""
        memory = 128 if uefi else 32
        usb = "" if "type='usb'" in extra else "<controller type='usb' model='none'/>"
        system = ""
        if variables:
            machine = "q35"
            system = (
                "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"
                f"<nvram>{variables}</nvram>"
            )
        xml = (
            f"<domain type='qemu'><name>{escape(name)}</name><memory unit='MiB'>{memory}</memory>"
            f"<vcpu>1</vcpu><os{firmware}><type arch='x86_64' machine='{machine}'>hvm</type>"
            f"{system}</os>{acpi}{elements}<devices>{usb}{drives}{extra}"
            "<memballoon model='none'/></devices></domain>"
        )
        host.run(["virsh", "-q", "define", "/dev/stdin"], input=xml.encode())
        if start:
            host.run(["virsh", "-q", "start", "--domain", name])
        text = host.run(["virsh", "domuuid", "--domain", name]).stdout
        return text.decode().strip()

    def sha(self, host: LabHost, file: str) -> str:
        """The SHA-256 of a file in a host's images directory."""
        return hashlib.sha256((host.images / file).read_bytes()).hexdigest()

    def files(self, host: LabHost) -> set[str]:
        """The files in a host's images directory."""
        return {path.name for path in host.images.iterdir()}

    def vms(self, host: LabHost) -> dict[str, str]:
        """The VMs of a host by name, with virsh's word for their state."""
        names = host.run(["virsh", "list", "--all", "--name"]).stdout.decode().split("\n")
        found = {}
        for name in filter(None, names):
            told = host.run(["virsh", "domstate", "--domain", name], check=False)
            if told.returncode == 0:  # else it went away since it was listed
                found[name] = told.stdout.decode().strip()
        return found

    def pools(self, host: LabHost) -> set[str]:
        """The storage pools of a host."""
        out = host.run(["virsh", "pool-list", "--all", "--name"]).stdout.decode()
        return {name.strip() for name in out.splitlines() if name.strip()}

    def secrets(self, host: LabHost) -> set[str]:
        """The UUIDs of a host's secrets."""
        lines = host.run(["virsh", "-q", "secret-list"]).stdout.decode().splitlines()
        return {line.split()[0] for line in lines if line.strip()}

    def operations(self) -> tuple[Operation, ...]:
        """All operations, the newest first."""
        with self.controller() as controller:
            return controller.operation_list()

    def history(self, operation_id: str) -> tuple[Event, ...]:
        """Everything that happened to an operation."""
        with self.controller() as controller:
            return controller.operation_log(operation_id)

    def resume_all(self) -> list[OperationState]:
        """What the next changing command does first: settles what was left."""
        ended = []
        with self.controller() as controller:
            for operation in controller.operation_orphans():
                ended.append(controller.operation_resume(operation.id, patience_s=30).state)
        return ended

    def assert_nothing_left(self) -> None:
        """No unfinished operation, carrier, or pool of ours, on either host."""
        assert [op for op in self.operations() if not op.state.ended] == []
        for host in (self.one, self.two):
            assert not [name for name in self.vms(host) if name.startswith("twinship-")]
            assert self.pools(host) <= {"default", "small", "other"}

    def mend(self) -> None:
        """Daemons and links up on both hosts."""
        for host in (self.one, self.two):
            host.link(which=Link.BOTH, up=True, unlimited=True)
            if host.daemon_state() is DaemonState.FROZEN:
                host.daemon(DaemonAction.THAW)
            if host.daemon_state() is not DaemonState.RUNNING:
                host.daemon(DaemonAction.START)

    def clean_vms(self, *hosts: LabHost) -> None:
        """No VM on these hosts, or on either; files stay."""
        for host in hosts or (self.one, self.two):
            for name, state in self.vms(host).items():
                if state != "shut off":
                    host.run(["virsh", "-q", "destroy", "--domain", name], check=False)
                undefine = ["virsh", "-q", "undefine", "--nvram", "--tpm", "--snapshots-metadata"]
                undefine += ["--checkpoints-metadata"]
                host.run([*undefine, "--domain", name], check=False)

    def clean(self) -> None:
        """Both hosts as new: no VM, no file."""
        self.clean_vms()
        for host in (self.one, self.two):
            for pool in self.pools(host) - {"default"}:
                host.run(["virsh", "-q", "pool-destroy", pool], check=False)
                host.run(["virsh", "-q", "pool-undefine", pool], check=False)
            for path in host.images.iterdir():
                path.unlink()
            for secret in self.secrets(host):
                host.run(["virsh", "-q", "secret-undefine", secret])
            for path in host.outside(NVRAM).glob("*"):
                path.unlink()
            for path in host.outside(SWTPM).glob("*"):
                shutil.rmtree(path)
            host.run(["virsh", "-q", "pool-refresh", "default"])


def code_of(process: subprocess.CompletedProcess[str]) -> str:
    """The error code a command printed."""
    for line in process.stderr.splitlines():
        if line.strip().startswith("code:"):
            return line.split(":", 1)[1].strip()
    return ""
