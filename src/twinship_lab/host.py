"""One host of the lab, as seen by who uses it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from urllib.parse import quote

from twinship_lab import daemon, network
from twinship_lab.control import set_control
from twinship_lab.daemon import DaemonAction, DaemonState
from twinship_lab.errors import HostFailed, LabError, Unknown
from twinship_lab.hostfiles import IMAGES
from twinship_lab.inside import OWN_DIRECTORIES, OWN_FILES
from twinship_lab.processes import Process, living_in
from twinship_lab.programs import Completed, clean_environment, run
from twinship_lab.state import lab_id, load, locked, save


class Link(Enum):
    """A host's links: data (between hosts) and control (from the controller)."""

    DATA = "data"
    CONTROL = "control"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class LabHost:
    """A host with a libvirtd, QEMU and address of its own.

    It says where things are whether or not the host runs; what acts raises
    :class:`HostFailed` when it does not.
    """

    name: str
    address: str
    lab_root: Path

    @property
    def root(self) -> Path:
        """What is the host's own of the file tree, as seen from outside."""
        return self.lab_root / "hosts" / self.name

    @property
    def images(self) -> Path:
        """The host's ``/var/lib/libvirt/images``, as seen from outside."""
        return self.outside(IMAGES)

    @property
    def socket(self) -> Path:
        """The controller's end of the control link."""
        return self.lab_root / "control" / self.name / "sock"

    @property
    def uri(self) -> str:
        """The libvirt URI that works from the root namespace, through the control link."""
        return f"qemu+unix:///system?socket={quote(str(self.socket))}"

    @property
    def tcp_uri(self) -> str:
        """The libvirt URI that works from the other hosts, over the data link."""
        return f"qemu+tcp://{self.address}/system"

    @property
    def namespace(self) -> str:
        """The name of the host's network namespace."""
        return network.namespace_prefix(lab_id(self.lab_root)) + self.name

    @property
    def fabric(self) -> str:
        """The name of the fabric's network namespace."""
        return network.namespace_prefix(lab_id(self.lab_root)) + "fabric"

    def outside(self, path_inside: str) -> Path:
        """Where a file of the host is seen from outside.

        What is not the host's own (``/usr``, ``/tmp``…) is everybody's, at the same path.
        """
        for own in (*OWN_DIRECTORIES, *OWN_FILES):
            if path_inside == own or path_inside.startswith(f"{own}/"):
                return self.root / path_inside.lstrip("/")
        return Path(path_inside)

    def processes(self) -> list[Process]:
        """All processes that live on the host."""
        inode = network.namespace_inode(self.namespace)
        return [] if inode is None else living_in([inode])

    def init(self) -> Process | None:
        """The host's PID 1, as a process here; None while the host is down."""
        ours = (p for p in self.processes() if p.inner_pid == 1 and p.depth == 1)
        return next((p for p in ours if p.name == "tini"), None)

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes | None = None,
        check: bool = True,
        timeout_s: float = 60,
    ) -> Completed:
        """Run a program on the host; see :func:`twinship_lab.programs.run`."""
        return run(self.entering(argv), input=input, check=check, timeout_s=timeout_s)

    def popen(
        self,
        argv: Sequence[str],
        *,
        stdin: int | None = subprocess.PIPE,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        """Start a program on the host; it is killed when the returned process is."""
        return subprocess.Popen(
            self.entering(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=clean_environment(),
        )

    def entering(self, argv: Sequence[str]) -> list[str]:
        """The argument list that runs ``argv`` inside all namespaces of the host."""
        init = self.init()
        if init is None:
            raise HostFailed(f"{self.name} is not up", hint="run `twinship lab up`")
        into = ["--mount", "--uts", "--pid", "--net", "--wdns=/"]
        # nsenter only waits for its child: without this the child would outlive it.
        bound = ["setpriv", "--pdeathsig", "KILL"]
        return ["nsenter", f"--target={init.pid}", *into, "--", *bound, *argv]

    def daemon_state(self) -> DaemonState:
        """How the host's libvirtd is."""
        return daemon.state_of(daemon.find_daemon(self.namespace, self.root))

    def daemon(self, action: DaemonAction) -> None:
        """Do something to libvirtd and wait until it is done.

        Starting what runs and ending what does not is no error; starting a
        frozen daemon, and freezing or thawing one that does not run, is.
        """
        found = daemon.find_daemon(self.namespace, self.root)
        match action, daemon.state_of(found):
            case DaemonAction.START, DaemonState.STOPPED:
                daemon.start(self.name, self.run)
            case DaemonAction.START, DaemonState.FROZEN:
                raise HostFailed(f"libvirtd of {self.name} is frozen", hint="thaw it")
            case DaemonAction.STOP | DaemonAction.KILL | DaemonAction.START, _ if found is None:
                return
            case DaemonAction.STOP, _ if found is not None:
                daemon.end(self.name, found, signal.SIGTERM)
            case DaemonAction.KILL, _ if found is not None:
                daemon.end(self.name, found, signal.SIGKILL)
            case DaemonAction.FREEZE, _ if found is not None:
                daemon.freeze(found)
            case DaemonAction.THAW, _ if found is not None:
                daemon.thaw(found)
            case DaemonAction.FREEZE | DaemonAction.THAW, _:
                raise HostFailed(f"libvirtd of {self.name} does not run", hint="start it")

    def link(
        self,
        *,
        which: Link = Link.DATA,
        up: bool | None = None,
        rate_bytes_s: int | None = None,
        unlimited: bool = False,
    ) -> None:
        """Cut or mend links; limit the data link's rate in each direction, or lift the limit.

        A cut link is a black hole: nothing is refused, nothing answered. The
        rate stays through ``up``; it counts Ethernet frames.
        """
        if rate_bytes_s is not None or unlimited:
            self._limit(which, None if unlimited else rate_bytes_s)
        if up is not None and which in (Link.DATA, Link.BOTH):
            network.set_cable(self.fabric, self.name, up=up)
        if up is not None and which in (Link.CONTROL, Link.BOTH):
            set_control(self.fabric, self.socket, up=up)

    def _limit(self, which: Link, rate_bytes_s: int | None) -> None:
        if which is Link.CONTROL:
            raise LabError("the control link has no rate", hint="limit the data link")
        if rate_bytes_s is not None and rate_bytes_s < 1000:
            raise LabError(f"{rate_bytes_s} bytes per second is too slow a link to be of use")
        with locked(self.lab_root):
            state = load(self.lab_root)
            known = next((h for h in state.hosts if h.name == self.name), None) if state else None
            if state is None or known is None:
                raise Unknown(f"the lab has no host {self.name}")
            save(self.lab_root, state.with_host(replace(known, rate_bytes_s=rate_bytes_s)))
            network.shape(self.fabric, self.name, self.namespace, rate_bytes_s)
