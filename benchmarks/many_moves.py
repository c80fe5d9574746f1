"""Ten idle VMs off one host: one command of ours beside ``virsh migrate`` in turn.

A part of ``script/bench migrate``; alone: ``python -m benchmarks.many_moves``. Idle guests on
shared storage (NBD disks of the lab), to and fro, each way by both tools in turn.
"""

from __future__ import annotations

import json
import sys
import time

from benchmarks.measure import Claim, lab, record, timed, twinship
from twinship_lab import Lab, LabHost
from twinship_lab.guests import GuestSpec, Load, create_guest

COUNT = 10
ROUNDS = 4
MEMORY_MIB = 128
IDLE = Load(tick_ms=1000)
"""It wakes once a second: two hundred times, as usual, ten guests under emulation fill a CPU."""


def main() -> int:
    """Measures it in a lab of its own."""
    with lab(2) as (made, environment):
        claims = ten_idle_vms(made, environment)
    return record("many_moves", claims, {"vms": COUNT, "memory_mib": MEMORY_MIB})


def ten_idle_vms(made: Lab, environment: dict[str, str], *, rounds: int = ROUNDS) -> list[Claim]:
    """The claim, of ``rounds`` moves of all by each tool in each direction."""
    one, two = made.host("lab1"), made.host("lab2")
    names = [f"idle{number:02}" for number in range(COUNT)]
    for name in names:
        disk = made.share(name, 16 * 2**20)
        spec = GuestSpec(shared=(disk,), memory_mib=MEMORY_MIB, load=IDLE, start=True)
        create_guest(one, made.cache, name, spec)
        up(one, name)
    seconds: dict[str, list[float]] = {"ours": [], "virsh": []}
    here, there = one, two
    for turn in range(4 * rounds + 2):
        tool = ("ours", "virsh")[turn // 2 % 2 if turn >= 2 else turn]
        took = MOVES[tool](here, there, names, environment)
        if turn >= 2:  # the first two warm both hosts and both tools up
            seconds[tool].append(took)
        here, there = there, here
    for name in names:
        here.run(["virsh", "-q", "destroy", name])
        here.run(["virsh", "-q", "undefine", name])
        made.unshare(name)
    return [
        Claim(
            name=f"{COUNT} idle VMs off one host, the whole command with Python's start",
            unit="s",
            ours=seconds["ours"],
            peer=seconds["virsh"],
            peer_name="virsh migrate --live, one after the other",
            limit=0.5,
        )
    ]


def by_ours(here: LabHost, there: LabHost, names: list[str], environment: dict[str, str]) -> float:
    """Everything of the host by one command."""
    command = twinship("migrate", "--all", "--from", here.name, "--to", there.name, "-o", "name")
    return timed(command, environment)


def by_virsh(here: LabHost, there: LabHost, names: list[str], environment: dict[str, str]) -> float:
    """One after the other, as one would in a shell."""
    command = ["virsh", "-c", here.uri, "migrate", "--live", "--persistent", "--undefinesource"]
    target = [there.uri, "--migrateuri", f"tcp://{there.address}"]
    return sum(timed([*command, name, *target], environment) for name in names)


MOVES = {"ours": by_ours, "virsh": by_virsh}


def up(host: LabHost, name: str) -> None:
    """Waits until the guest's agent answers."""
    command = json.dumps({"execute": "twinship-ticks", "arguments": {"reset": False}})
    for _ in range(600):
        asked = host.run(["virsh", "qemu-agent-command", name, command], check=False)
        if asked.returncode == 0:
            return
        time.sleep(0.1)
    raise RuntimeError(f"the agent of {name} does not answer")


if __name__ == "__main__":
    sys.exit(main())
