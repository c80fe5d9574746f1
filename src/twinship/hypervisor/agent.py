"""The guest agent: whether it answers, and for how long the guest stood still.

While a VM is stopped its clock is stopped. So the guest's clock falls behind ours by exactly the
time it did not run, and any agent that knows ``guest-get-time`` lets us measure that from outside
(:func:`clock_lag`). A guest whose clock is stepped meanwhile (by NTP) tells a wrong number.

The lab's micro guest also answers ``twinship-ticks``: the longest gap between two ticks, measured
inside against the CMOS clock; tests hold the two against each other.
"""

from __future__ import annotations

import json
from typing import Any

import libvirt
import libvirt_qemu

from twinship.clock import Clock
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.translate import translated
from twinship.hypervisor.vms import need
from twinship.model.errors import HypervisorError
from twinship.model.vm import TickReport

TIMEOUT_S = 5
CLOCK_SAMPLES = 3
TOO_SLOW_S = 0.2


def answers(connection: Connection, uuid: str) -> bool:
    """Whether the guest's agent answers now (within a second)."""
    try:
        ask(connection, uuid, "guest-ping", timeout_s=1)
    except HypervisorError:
        return False
    return True


def ticks(connection: Connection, uuid: str, *, reset: bool = False) -> TickReport | None:
    """What the tick agent reports; None for a guest without one.

    ``reset``: the longest gap is counted anew from here on.
    """
    try:
        answer = ask(connection, uuid, "twinship-ticks", {"reset": True} if reset else None)
    except HypervisorError:
        return None
    if not isinstance(answer, dict) or "longest_gap_s" not in answer:
        return None
    known = ("longest_gap_s", "up_s", "memory_errors", "disk_writes", "disk_errors")
    return TickReport(
        longest_gap_s=float(answer["longest_gap_s"]),
        up_s=float(answer.get("up_s", 0)),
        memory_errors=int(answer.get("memory_errors", 0)),
        disk_writes=int(answer.get("disk_writes", 0)),
        disk_errors=int(answer.get("disk_errors", 0)),
        extra={key: value for key, value in answer.items() if key not in known},
    )


def clock_lag(connection: Connection, uuid: str, clock: Clock) -> float | None:
    """Our clock minus the guest's, in seconds: of use only as a difference of two calls.

    None for a guest without an agent, and for one whose agent takes its time: that would tell
    nothing, and hold up who asks. The quickest of a few answers counts; the error is half of what
    that one took (a few milliseconds).
    """
    best: tuple[float, float] | None = None
    for _ in range(CLOCK_SAMPLES):
        asked = clock.monotonic()
        try:
            told = ask(connection, uuid, "guest-get-time", timeout_s=1)
        except HypervisorError:
            return None
        answered = clock.monotonic()
        if not isinstance(told, int):
            return None
        took = answered - asked
        if took > TOO_SLOW_S:
            return best[1] if best is not None else None
        if best is None or took < best[0]:
            best = (took, (asked + answered) / 2 - told / 1e9)
    return best[1] if best is not None else None


def ask(
    connection: Connection,
    uuid: str,
    command: str,
    arguments: dict[str, Any] | None = None,
    *,
    timeout_s: int = TIMEOUT_S,
) -> Any:
    """Sends one command to the agent and returns its answer, waiting ``timeout_s`` at most."""
    request: dict[str, Any] = {"execute": command}
    if arguments is not None:
        request["arguments"] = arguments
    domain = need(connection, uuid)
    try:
        text = libvirt_qemu.qemuAgentCommand(domain, json.dumps(request), timeout_s, 0)
    except libvirt.libvirtError as error:
        raise translated(error, f"ask the guest agent of VM {uuid}") from error
    return json.loads(text).get("return")
