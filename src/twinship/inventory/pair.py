"""What a pair of hosts needs before the first move between them, as a table; pure.

Each row is asked in both directions. What is missing keeps moves from working; a note may matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from twinship.model.host import HostFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSide:
    """One host of the two. What it cannot tell is None.

    ``bridges`` are those its VMs may be joined to, ``secrets`` are shown by UUID and use.
    ``cpu_baseline`` is the ``<cpu>`` that both hosts can give, the same on both sides.
    """

    facts: HostFacts
    bridges: frozenset[str] | None = None
    filters: frozenset[str] | None = None
    secrets: frozenset[str] | None = None
    machines: frozenset[str] | None = None
    loaders: frozenset[str] = frozenset()
    bios: str | None = None
    cpu_baseline: str = ""

    @property
    def name(self) -> str:
        """The host's name with us."""
        return self.facts.name


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence. ``missing``: moves fail without it."""

    text: str
    missing: bool = True


Row = Callable[[PairSide, PairSide], Iterator[Said]]
_ROWS: list[tuple[Row, bool]] = []


def _row(*, both_ways: bool = True) -> Callable[[Row], Row]:
    def add(row: Row) -> Row:
        _ROWS.append((row, both_ways))
        return row

    return add


def compared(one: PairSide, other: PairSide) -> tuple[Said, ...]:
    """Everything that is to be said of two hosts, each sentence once."""
    found: dict[Said, None] = {}
    for row, both_ways in _ROWS:
        found |= dict.fromkeys(row(one, other))
        if both_ways:
            found |= dict.fromkeys(row(other, one))
    return tuple(sorted(found, key=lambda said: not said.missing))


@_row(both_ways=False)
def _one_uuid(a: PairSide, b: PairSide) -> Iterator[Said]:
    if a.facts.uuid == b.facts.uuid:
        yield Said(
            f"both show the host UUID {a.facts.uuid}: set host_uuid in /etc/libvirt/libvirtd.conf "
            f"(or virtqemud.conf) on {b.name} (uuidgen makes one) and restart that daemon"
        )


@_row(both_ways=False)
def _architecture(a: PairSide, b: PairSide) -> Iterator[Said]:
    if a.facts.arch != b.facts.arch:
        yield Said(
            f"{a.name} is {a.facts.arch}, {b.name} is {b.facts.arch}: no VM can move between them"
        )


@_row()
def _acceleration(a: PairSide, b: PairSide) -> Iterator[Said]:
    if "kvm" in a.facts.domain_types and "kvm" not in b.facts.domain_types:
        yield Said(
            f"{b.name} has no KVM, which VMs of {a.name} may use: there, virt-host-validate qemu "
            "says why (virtualization in the BIOS, modprobe kvm_intel or kvm_amd)"
        )


@_row()
def _session(a: PairSide, _b: PairSide) -> Iterator[Said]:
    if not a.facts.privileged:
        yield Said(
            f"{a.name} is a session connection, from and to which moves are unreliable: add it as "
            "qemu+ssh://root@HOST/system",
            missing=False,
        )


@_row()
def _pools(a: PairSide, b: PairSide) -> Iterator[Said]:
    for pool in a.facts.pools:
        if not pool.path or pool.type not in ("dir", "fs", "netfs"):
            continue
        there = b.facts.pool_at(pool.path)
        if there is None:
            yield Said(
                f"{b.name} has no pool over {pool.path}: there, virsh pool-define-as {pool.name} "
                f"dir --target {pool.path} && virsh pool-build {pool.name} && "
                f"virsh pool-start {pool.name} && virsh pool-autostart {pool.name}"
            )
        elif pool.active and not there.active:
            yield Said(
                f"pool {there.name} on {b.name} is not active: virsh pool-start {there.name}"
            )


@_row()
def _networks(a: PairSide, b: PairSide) -> Iterator[Said]:
    for network in a.facts.networks:
        there = b.facts.network(network.name)
        if there is None:
            yield Said(
                f"{b.name} has no network {network.name}: virsh net-dumpxml {network.name} here, "
                "net-define and net-start there"
            )
        elif network.active and not there.active:
            yield Said(
                f"network {network.name} on {b.name} is not active: there, virsh net-start "
                f"{network.name} && virsh net-autostart {network.name}"
            )


@_row(both_ways=False)
def _network_modes(a: PairSide, b: PairSide) -> Iterator[Said]:
    for network in a.facts.networks:
        there = b.facts.network(network.name)
        if there is not None and there.forward != network.forward:
            yield Said(
                f"network {network.name} is {network.forward} on {a.name}, {there.forward} on "
                f"{b.name}: a guest that moves finds itself elsewhere",
                missing=False,
            )


@_row()
def _bridges(a: PairSide, b: PairSide) -> Iterator[Said]:
    own = {network.bridge for network in a.facts.networks}
    if a.bridges is None or b.bridges is None:
        yield Said(
            f"whether {a.name} and {b.name} have the same bridges cannot be seen", missing=False
        )
        return
    for bridge in sorted(a.bridges - b.bridges - own):
        yield Said(
            f"{b.name} has no bridge {bridge}, to which VMs of {a.name} may be joined: make one "
            f"there (nmcli connection add type bridge ifname {bridge}), or move with "
            f"--map {bridge}=NAME",
            missing=False,
        )


@_row()
def _filters(a: PairSide, b: PairSide) -> Iterator[Said]:
    lacking = sorted((a.filters or frozenset()) - (b.filters or frozenset()))
    if b.filters is not None and lacking:
        yield Said(
            f"{b.name} lacks {_some(lacking)} of {a.name}'s network filters: virsh "
            "nwfilter-dumpxml NAME here, nwfilter-define there",
            missing=False,
        )


@_row()
def _secrets(a: PairSide, b: PairSide) -> Iterator[Said]:
    lacking = sorted((a.secrets or frozenset()) - (b.secrets or frozenset()))
    if b.secrets is not None and lacking:
        yield Said(
            f"{b.name} lacks these secrets of {a.name}: {_some(lacking)}; a VM that needs one: "
            "virsh secret-dumpxml here, secret-define and secret-set-value there",
            missing=False,
        )


@_row()
def _security(a: PairSide, b: PairSide) -> Iterator[Said]:
    lacking = sorted(set(a.facts.security_models) - set(b.facts.security_models) - {"none", "dac"})
    if lacking:
        yield Said(
            f"{b.name} does not confine guests by {_some(lacking)}, as {a.name} does: fixed labels "
            "have to be left out (--fix)",
            missing=False,
        )


@_row()
def _versions(a: PairSide, b: PairSide) -> Iterator[Said]:
    for what, here, there in (
        ("libvirt", a.facts.libvirt_version, b.facts.libvirt_version),
        ("QEMU", a.facts.qemu_version, b.facts.qemu_version),
    ):
        if there < here:
            yield Said(
                f"{what} on {b.name} ({_dotted(there)}) is older than on {a.name} "
                f"({_dotted(here)}): running VMs move the other way for certain, this way perhaps",
                missing=False,
            )


@_row()
def _machines(a: PairSide, b: PairSide) -> Iterator[Said]:
    lacking = sorted((a.machines or frozenset()) - (b.machines or frozenset()), key=_by_version)
    if b.machines is not None and lacking:
        yield Said(
            f"{b.name} does not know {len(lacking)} machine types of {a.name} (the newest: "
            f"{lacking[-1]}): update QEMU there, or give VMs an older type",
            missing=False,
        )


@_row()
def _firmware(a: PairSide, b: PairSide) -> Iterator[Said]:
    lacking = sorted(a.loaders - b.loaders)
    if lacking:
        yield Said(
            f"{b.name} lacks the firmware {_some(lacking)}: install the package it comes from",
            missing=False,
        )


@_row(both_ways=False)
def _cpus(a: PairSide, b: PairSide) -> Iterator[Said]:
    one, other = a.facts, b.facts
    differ = [
        f"{what} {here or 'unknown'} and {there or 'unknown'}"
        for what, here, there in (
            ("vendor", one.cpu_vendor, other.cpu_vendor),
            ("model", one.cpu_model, other.cpu_model),
            ("microcode", one.cpu_microcode, other.cpu_microcode),
            ("BIOS", a.bios or "", b.bios or ""),
        )
        if here != there
    ]
    if not differ:
        return
    paste = f": in place of a VM's <cpu> paste {a.cpu_baseline}" if a.cpu_baseline else ""
    yield Said(
        f"the CPUs of {a.name} and {b.name} differ ({', '.join(differ)}): give VMs that shall move "
        f"a CPU both have{paste}",
        missing=False,
    )


@_row(both_ways=False)
def _unseen(a: PairSide, b: PairSide) -> Iterator[Said]:
    if "kvm" in a.facts.domain_types and "kvm" in b.facts.domain_types:
        yield Said(
            "kernel, BIOS settings and clocks of the two cannot be seen from here: keep them alike "
            "(and let chrony or ntpd run on both)",
            missing=False,
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _by_version(machine: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", machine))


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(str(part) for part in version)
