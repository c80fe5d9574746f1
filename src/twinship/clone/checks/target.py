"""Checks of a clone: where the clone goes."""

from __future__ import annotations

from collections.abc import Iterator

from twinship.clone.checks.case import GIB, CloneCase
from twinship.clone.disks import DEVICE_POOLS
from twinship.domxml import read
from twinship.model.host import Pool
from twinship.model.plan import Severity
from twinship.model.request import CloneMode
from twinship.planning.checks import CheckTable, Problem

ROWS: CheckTable[CloneCase] = CheckTable()


@ROWS.row("CLONE_LINKED")
def linked_where_its_base_is(case: CloneCase) -> Problem | None:
    """A linked clone reads its base's files: both are on one host."""
    if case.request.mode is not CloneMode.LINKED or not case.facts.across:
        return None
    return Problem(
        "a linked clone stays on the host of its base",
        hint="clone it in full (--mode full), or clone first and migrate then",
    )


@ROWS.row("TARGET_ADDRESS")
def target_can_be_sent_to(case: CloneCase) -> Problem | None:
    """The source's QEMU must know where to send: an address of the target that is not loopback."""
    if not case.facts.across or case.facts.address:
        return None
    host = case.facts.host.name
    return Problem(
        f"no address of {host} is known that other hosts could use",
        hint=f"add it with one: twinship host add {host} URI --address IP",
        object=f"host/{host}",
    )


@ROWS.row("STORAGE_POOL_MISSING")
def pools_are_there(case: CloneCase) -> Iterator[Problem]:
    """The pool for the new disks must exist, be active and be a directory or a volume group."""
    for name, _ in case.pools:
        pool = _pool(case, name)
        if not name:
            continue  # DISK_PATH says what is wrong with the path
        if pool is None:
            known = ", ".join(p.name for p in case.facts.host.pools) or "none"
            yield Problem(
                f"host {case.facts.host.name} has no storage pool {name!r}",
                hint=f"pools there: {known}",
                object=f"pool/{name}",
            )
        elif not pool.active:
            yield Problem(
                f"storage pool {name!r} is not active",
                hint=f"virsh pool-start {name}",
                object=f"pool/{name}",
            )
        elif pool.type not in ("dir", "fs", "netfs", *DEVICE_POOLS):
            yield Problem(
                f"storage pool {name!r} is of type {pool.type}; a directory or a volume group "
                "(logical) is needed",
                hint="--pool POOL",
                object=f"pool/{name}",
            )


@ROWS.row("CLONE_NETWORK", Severity.WARN)
def networks_are_there(case: CloneCase) -> Iterator[Problem]:
    """A VM can be defined on a libvirt network that its host does not have, but not started."""
    host = case.facts.host
    nics = read.summary(case.definition).nics if case.definition else ()
    for name in dict.fromkeys(nic.source for nic in nics if nic.kind == "network"):
        found = host.network(name)
        if found is None or not found.active:
            known = ", ".join(net.name for net in host.networks if net.active) or "none"
            state = "has no network" if found is None else "has not started network"
            yield Problem(
                f"host {host.name} {state} {name[:60]!r}: the clone cannot start",
                hint=f"--network 0=NAME; active there: {known}",
                object=f"network/{name}",
            )


@ROWS.row("CLONE_MEMORY", Severity.WARN)
def memory_is_there(case: CloneCase) -> Problem | None:
    """A VM with more memory than its host has can be defined, and will hardly start."""
    host, wanted = case.facts.host, case.request.memory_bytes
    if wanted <= host.memory_bytes:
        return None
    return Problem(
        f"the clone shall have {wanted / GIB:g} GiB of memory, host {host.name} has "
        f"{host.memory_bytes / GIB:.1f} GiB in all",
        hint="a smaller --memory",
        object="memory",
    )


@ROWS.row("STORAGE_FULL")
def copies_fit(case: CloneCase) -> Iterator[Problem]:
    """The bytes to be copied must fit into the pool, all disks together."""
    for name, needed in case.pools:
        pool = _pool(case, name)
        if pool is not None and pool.active and needed > pool.available_bytes:
            yield Problem(
                f"the copies need {needed / GIB:.1f} GiB, pool {name!r} has "
                f"{pool.available_bytes / GIB:.1f} GiB left",
                hint="free space there or choose another pool (--pool)",
                object=f"pool/{name}",
            )


def _pool(case: CloneCase, name: str) -> Pool | None:
    return next((pool for pool in case.facts.host.pools if pool.name == name), None)
