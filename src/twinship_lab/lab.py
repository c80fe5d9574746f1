"""The lab as a whole: up, down, and what is in between."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from twinship_lab import network, storage
from twinship_lab.boot import boot_host, prepare_host
from twinship_lab.errors import HostFailed, LabError, NotReady, Unknown
from twinship_lab.host import LabHost
from twinship_lab.hostfiles import write_names
from twinship_lab.processes import command_line, send
from twinship_lab.programs import require_programs, require_root, wait_until
from twinship_lab.state import (
    INVENTORY,
    HostRecord,
    LabState,
    lab_id,
    lab_root,
    load,
    locked,
    refuse_foreign,
    save,
)
from twinship_lab.status import LabStatus, host_status
from twinship_lab.storage import SharedDisk

MOST_HOSTS = 99
_STORAGE_PORT = "storage"
_KILL_WITHIN_S = 20


def _silent(_line: str) -> None:
    """Say nothing."""


class Lab:
    """Some KVM hosts, the network between them and disks they share.

    Everything it makes bears a mark of the state directory's path, so labs of
    different directories live side by side, and :meth:`down` finds all of one
    lab even when nothing was written down.
    """

    def __init__(self, root: Path | None = None) -> None:
        """``root``: the state directory; None: ``TWINSHIP_LAB_DIR`` or the default."""
        self.root = lab_root(root)
        self.cache = self.root / "cache"
        self._prefix = network.namespace_prefix(lab_id(self.root))
        self._fabric = f"{self._prefix}fabric"
        self._storage = f"{self._prefix}storage"

    def up(self, hosts: int = 2, say: Callable[[str], None] = _silent) -> tuple[LabHost, ...]:
        """Make sure at least ``hosts`` hosts run and answer; returns all there are.

        What runs is kept, what died is started again, frozen is thawed, cut is
        mended; guests are not touched. Raises :class:`LabError` with what is
        wrong; calling it again goes on from there.
        """
        require_root()
        require_programs()
        if not 1 <= hosts <= MOST_HOSTS:
            raise LabError(f"a lab of {hosts} hosts is not possible", hint=f"1 to {MOST_HOSTS}")
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        refuse_foreign(self.root)
        with locked(self.root):
            state = load(self.root) or LabState(
                network=network.choose_network(network.routes_here())
            )
            state = state.with_hosts(hosts)
            save(self.root, state)
            return self._bring_up(state, say)

    def down(self, say: Callable[[str], None] = _silent) -> None:
        """Remove every process, namespace, link and file of the lab, except ``cache``.

        Works on whatever an interrupted :meth:`up` left. Raises
        :class:`HostFailed` when a process will not die.
        """
        require_root()
        if not self.root.is_dir():
            self._remove_live(say)
            return
        refuse_foreign(self.root)
        with locked(self.root):
            self._remove_live(say)
            self._remove_files()
        say("the lab is down")

    def status(self) -> LabStatus:
        """How everything is, from the kernel's view; works while daemons are frozen."""
        state = load(self.root)
        if state is None:
            return LabStatus(self.root, None, (), ())
        hosts = tuple(host_status(self._host(state, record), record) for record in state.hosts)
        shares = tuple(self._shared(state, share.name) for share in state.shares)
        return LabStatus(self.root, state.network, hosts, shares)

    def hosts(self) -> tuple[LabHost, ...]:
        """The hosts the lab has, running or not."""
        state = load(self.root)
        return () if state is None else tuple(self._host(state, h) for h in state.hosts)

    def host(self, name: str) -> LabHost:
        """The host of this name; :class:`Unknown` lists those there are."""
        known = self.hosts()
        for host in known:
            if host.name == name:
                return host
        names = ", ".join(host.name for host in known)
        hint = f"there are {names}" if names else "no lab is up; run `twinship lab up`"
        raise Unknown(f"the lab has no host {name}", hint=hint)

    def share(self, name: str, size_bytes: int) -> SharedDisk:
        """Make a raw disk of ``size_bytes`` and serve it to all hosts; once made, it is kept."""
        with locked(self.root):
            state = self._recorded()
            record = storage.plan_share(state, name, size_bytes)
            others = tuple(share for share in state.shares if share.name != name)
            state = replace(state, shares=(*others, record))
            save(self.root, state)
            storage.serve(self._storage, state.storage_address, self.root, record)
        return self._shared(state, name)

    def unshare(self, name: str) -> None:
        """Stop serving a shared disk and delete it."""
        with locked(self.root):
            state = self._recorded()
            left = tuple(share for share in state.shares if share.name != name)
            if left == state.shares:
                names = ", ".join(share.name for share in left) or "none"
                raise Unknown(f"there is no shared disk {name}", hint=f"there are: {names}")
            storage.stop(self._storage, self.root, name)
            save(self.root, replace(state, shares=left))

    def _recorded(self) -> LabState:
        state = load(self.root)
        if state is None:
            raise Unknown(f"no lab is up in {self.root}", hint="run `twinship lab up`")
        return state

    def _host(self, state: LabState, record: HostRecord) -> LabHost:
        return LabHost(record.name, state.address(record.number), self.root)

    def _shared(self, state: LabState, name: str) -> SharedDisk:
        share = next(share for share in state.shares if share.name == name)
        path = storage.image_path(self.root, name)
        return SharedDisk(name, state.storage_address, share.port, path)

    def _bring_up(self, state: LabState, say: Callable[[str], None]) -> tuple[LabHost, ...]:
        for private in ("control", "hosts", "shares", "cache"):
            (self.root / private).mkdir(exist_ok=True, mode=0o700)
        network.ensure_fabric(self._fabric)
        network.ensure_namespace(self._storage)
        network.ensure_cable(self._fabric, _STORAGE_PORT, self._storage, state.storage_address)
        hosts = tuple(self._host(state, record) for record in state.hosts)
        addresses = {host.name: host.address for host in hosts}
        for host in hosts:
            prepare_host(host)
            write_names(host.root, {**addresses, "storage": state.storage_address})
        with ThreadPoolExecutor(max_workers=8) as pool:
            booting = [
                pool.submit(boot_host, host, record, say)
                for host, record in zip(hosts, state.hosts, strict=True)
            ]
        for boot in booting:
            boot.result()
        for share in state.shares:
            storage.serve(self._storage, state.storage_address, self.root, share)
        return hosts

    def _remove_live(self, say: Callable[[str], None]) -> None:
        if not wait_until(self._nobody_left, within_s=_KILL_WITHIN_S):
            left = [f"{pid} ({' '.join(command_line(pid))})" for pid in self._inhabitants()]
            raise HostFailed("processes of the lab would not die", cause="; ".join(left[:5]))
        names = network.namespaces(self._prefix)
        if names:
            say(f"removing {', '.join(name.removeprefix(self._prefix) for name in names)}")
        network.remove_namespaces(self._prefix)

    def _inhabitants(self) -> list[int]:
        return network.inhabitants(self._prefix)

    def _nobody_left(self) -> bool:
        """Kill all that live in the lab's namespaces; True once there was nobody to kill.

        A host's init takes all of its PID namespace with it, frozen or not.
        """
        left = self._inhabitants()
        for pid in left:
            send(pid, signal.SIGKILL)
        return not left

    def _remove_files(self) -> None:
        mounted = _mounts_below(self.root)
        if mounted:
            raise NotReady(
                "something is mounted in the lab's directory",
                cause=", ".join(mounted),
                hint="unmount it and run `twinship lab down` again",
            )
        for private in ("control", "hosts", "shares", INVENTORY):
            shutil.rmtree(self.root / private, ignore_errors=True)
        for file in ("lab.json.new", "lab.json"):
            (self.root / file).unlink(missing_ok=True)


def _mounts_below(root: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    return [point for point in points if point.startswith(f"{root}/")]
