"""What both hosts show of a VM that is being moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twinship.clock import Clock
from twinship.hypervisor import vms
from twinship.migrate.reconcile import Side
from twinship.model.errors import HostUnreachable
from twinship.model.vm import VmState
from twinship.transfer.steps import Hosts

_OF_THE_MOVE = ("migration", "starting_up", "")
UNDER_WAY = "post_copy"
BROKEN = "post_copy_failed"
IN_A_MOMENT_S = 5.0
LOOK_EVERY_S = 0.1
HALF_A_MOMENT = frozenset((side, Side.HALF) for side in (Side.ABSENT, Side.OFF, Side.SERVING))
"""A target that has just got everything, or a source that was looked at just before the switch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Both sides; ``trouble`` says why one could not be seen."""

    source: Side
    target: Side
    trouble: str = ""


def observe(hosts: Hosts, spec: dict[str, Any]) -> Sides:
    """Looks at both sides. Never raises for a host that does not answer: that side is unseen."""
    troubles: list[str] = []
    source = _side(hosts, spec, spec["source"], troubles)
    target = _side(hosts, spec, spec["target"], troubles)
    return Sides(source=source, target=target, trouble="; ".join(troubles))


def at_rest(
    clock: Clock,
    hosts: Hosts,
    spec: dict[str, Any],
    passing: frozenset[tuple[Side, Side]] = HALF_A_MOMENT,
) -> Sides:
    """Both sides; pairs that libvirt itself soon makes another of get a moment first."""
    deadline = clock.monotonic() + IN_A_MOMENT_S
    while True:
        sides = observe(hosts, spec)
        if (sides.source, sides.target) not in passing or clock.monotonic() > deadline:
            return sides
        clock.wait(LOOK_EVERY_S)


def _side(hosts: Hosts, spec: dict[str, Any], host: str, troubles: list[str]) -> Side:
    try:
        found = vms.state(hosts.connection(host), spec["vm"]["uuid"])
    except HostUnreachable as error:
        troubles.append(f"{host}: {error.cause or error.message}")
        return Side.UNSEEN
    side = side_of(found, was_paused=bool(spec["was_paused"]))
    if side is Side.UNSEEN:
        troubles.append(f"{host}: the VM is just ending")
    return side


def side_of(found: tuple[VmState, str, bool] | None, *, was_paused: bool) -> Side:
    """What a host's answer means for a move (:func:`twinship.hypervisor.vms.state`)."""
    if found is None:
        return Side.ABSENT
    state, reason, _ = found
    if state is VmState.SHUTTING_DOWN:
        return Side.UNSEEN  # it is ending this very moment: neither serving any more nor off yet
    if state in (VmState.PAUSED, VmState.RUNNING) and reason in (UNDER_WAY, BROKEN):
        return Side.HALF
    if state is VmState.PAUSED:
        if was_paused and reason not in _OF_THE_MOVE:
            return Side.SERVING
        return Side.HELD if reason in _OF_THE_MOVE else Side.SERVING
    return Side.SERVING if state.active else Side.OFF
