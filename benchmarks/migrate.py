"""Moves beside virsh and beside the manual's way: one VM, with disks, many VMs.

``script/bench migrate``; about ten minutes on two cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime

from benchmarks.many_moves import ten_idle_vms
from benchmarks.measure import GIB, Claim, allocated, forget_caches, lab, record, timed, twinship
from benchmarks.ssh import scp_way
from twinship_lab import Lab, LabHost
from twinship_lab.guests import GuestSpec, NewDisk, create_guest

ROUNDS = 9
OFFLINE_ROUNDS = 3


def main() -> int:
    """Measures all, in one run."""
    claims: list[Claim] = []
    with lab(2) as (made, environment):
        claims += live_move(made, environment)
        claims += live_with_disk(made, environment)
        claims += offline_move(made, environment, format="raw", limit=0.2)
        claims += offline_move(made, environment, format="qcow2", limit=0.5)
        claims += ten_idle_vms(made, environment)
    return record("migrate", claims, {"rounds": ROUNDS, "offline_rounds": OFFLINE_ROUNDS})


def live_move(made: Lab, environment: dict[str, str]) -> list[Claim]:
    """An idle 256 MiB guest on shared storage, to and fro, each way by both tools in turn."""
    one, two = made.host("lab1"), made.host("lab2")
    shared = made.share("idle", 64 * 2**20)
    create_guest(one, made.cache, "idle", GuestSpec(shared=(shared,), start=True))
    ticks(one, "idle")
    seconds: dict[str, list[float]] = {"ours": [], "virsh": []}
    gaps: dict[str, list[float]] = {"ours": [], "virsh": []}
    operation: list[float] = []
    here, there = one, two
    for turn in range(2 * ROUNDS + 2):
        tool = ("ours", "virsh")[turn // 2 % 2]
        ticks(here, "idle", reset=True)
        took = timed(move_command(tool, here, there, "idle"), environment)
        time.sleep(2.2)  # the guest's clock shows a stop at its next full second
        if turn >= 2:  # the first two warm both hosts up
            seconds[tool].append(took)
            gaps[tool].append(ticks(there, "idle"))
            if tool == "ours":
                operation.append(last_operation(environment))
        here, there = there, here
    here.run(["virsh", "-q", "destroy", "idle"])
    here.run(["virsh", "-q", "undefine", "idle"])
    return [
        Claim(
            name="live move of an idle guest, the operation",
            unit="s",
            ours=operation,
            peer=seconds["virsh"],
            peer_name="virsh migrate --live",
            limit=1.15,
        ),
        Claim(
            name="the same, the whole command with Python's start",
            unit="s",
            ours=seconds["ours"],
            peer=seconds["virsh"],
            peer_name="virsh migrate --live",
            limit=None,
        ),
        Claim(
            name="the guest's longest gap in it",
            unit="s",
            ours=gaps["ours"],
            peer=gaps["virsh"],
            peer_name="virsh migrate --live",
            limit=0.1,
            kind="difference",
        ),
    ]


def move_command(tool: str, here: LabHost, there: LabHost, name: str) -> list[str]:
    """The same move by either tool: persistent there, gone here."""
    if tool == "ours":
        return twinship("migrate", f"{here.name}/{name}", "--to", there.name)
    command = ["virsh", "-c", here.uri, "migrate", "--live", "--persistent", "--undefinesource"]
    return [*command, name, there.uri, "--migrateuri", f"tcp://{there.address}"]


def last_operation(environment: dict[str, str]) -> float:
    """From accepted to done, as the newest operation recorded it: checks, move, statistics."""
    command = twinship("operation", "list", "--limit", "1", "-o", "json")
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    operation = json.loads(done.stdout)["items"][0]
    created, ended = (
        datetime.fromisoformat(operation[key].replace("Z", "+00:00"))
        for key in ("created", "ended")
    )
    return (ended - created).total_seconds()


def ticks(host: LabHost, name: str, *, reset: bool = False) -> float:
    """The guest's longest gap; waits until its agent answers."""
    command = {"execute": "twinship-ticks", "arguments": {"reset": reset}}
    for _ in range(100):
        done = host.run(["virsh", "qemu-agent-command", name, json.dumps(command)], check=False)
        if done.returncode == 0:
            return float(json.loads(done.stdout)["return"]["longest_gap_s"])
        time.sleep(0.1)
    raise RuntimeError(f"the agent of {name} does not answer")


def offline_move(
    made: Lab, environment: dict[str, str], *, format: str, limit: float
) -> list[Claim]:
    """A shut-off VM with a 20 GiB disk that holds 2 GiB, cold cache."""
    one, two = made.host("lab1"), made.host("lab2")
    spec = GuestSpec(disks=(NewDisk(size_bytes=20 * GIB, data_bytes=2 * GIB, format=format),))
    ours: list[float] = []
    peer: list[float] = []
    flushed: list[float] = []
    create_guest(one, made.cache, "big", spec)
    path = disk_of(one, "big")
    size = allocated(one, path)
    for _ in range(OFFLINE_ROUNDS):
        forget_caches()
        typed, with_sync = scp_way(one, two, "big", path)
        peer.append(typed)
        flushed.append(with_sync)
        back(one, two, "big", path)
        forget_caches()
        ours.append(timed(twinship("migrate", "lab1/big", "--to", "lab2"), environment))
        arrived = allocated(two, path)
        back(one, two, "big", path)
    one.run(["virsh", "-q", "undefine", "big"])
    one.outside(path).unlink()
    what = f"offline move, 20 GiB {format} holding 2 GiB"
    return [
        Claim(
            name=what,
            unit="s",
            ours=ours,
            peer=flushed,
            peer_name="virsh migrate --offline, scp, sync",
            limit=limit,
        ),
        Claim(
            name=f"{what}, against a copy left in the page cache",
            unit="s",
            ours=ours,
            peer=peer,
            peer_name="virsh migrate --offline, scp",
            limit=None,
        ),
        Claim(
            name=f"{what}: bytes allocated on the target by those of the source",
            unit="bytes",
            ours=[float(arrived)],
            peer=[float(size)],
            peer_name="the source file",
            limit=1.05,
        ),
    ]


def live_with_disk(made: Lab, environment: dict[str, str]) -> list[Claim]:
    """A running guest with a 2 GiB qcow2 that holds 300 MiB: what lies on the target afterwards."""
    one, two = made.host("lab1"), made.host("lab2")
    spec = GuestSpec(
        disks=(NewDisk(size_bytes=2 * GIB, data_bytes=300 * 2**20),), memory_mib=128, start=True
    )
    seconds: dict[str, list[float]] = {"ours": [], "virsh": []}
    sizes: dict[str, list[float]] = {"ours": [], "virsh": [], "source": []}
    for tool in ("ours", "virsh"):
        create_guest(one, made.cache, "local", spec)
        ticks(one, "local")
        path = disk_of(one, "local")
        sizes["source"].append(float(allocated(one, path)))
        command = move_command(tool, one, two, "local")
        if tool == "virsh":
            command.append("--copy-storage-all")
        seconds[tool].append(timed(command, environment))
        sizes[tool].append(float(allocated(two, path)))
        two.run(["virsh", "-q", "destroy", "local"])
        two.run(["virsh", "-q", "undefine", "local"])
        for host in (one, two):
            host.outside(path).unlink()
            host.run(["virsh", "-q", "pool-refresh", "default"])
    what = "live move with a 2 GiB qcow2 holding 300 MiB"
    return [
        Claim(
            name=f"{what}: bytes allocated on the target by those of the source",
            unit="bytes",
            ours=sizes["ours"],
            peer=sizes["source"],
            peer_name="the source file",
            limit=1.05,
        ),
        Claim(
            name=f"{what}: the same by virsh's",
            unit="bytes",
            ours=sizes["ours"],
            peer=sizes["virsh"],
            peer_name="virsh migrate --copy-storage-all",
            limit=None,
        ),
        Claim(
            name=f"{what}, the whole command",
            unit="s",
            ours=seconds["ours"],
            peer=seconds["virsh"],
            peer_name="virsh migrate --copy-storage-all",
            limit=None,
        ),
    ]


def disk_of(host: LabHost, name: str) -> str:
    """The path of a VM's first disk."""
    out = host.run(["virsh", "-q", "domblklist", name]).stdout.decode()
    return out.split(maxsplit=1)[1].splitlines()[0].strip()


def back(one: LabHost, two: LabHost, name: str, path: str) -> None:
    """As it was before the move: defined on the first host, nothing on the second."""
    xml = two.run(["virsh", "dumpxml", "--inactive", name]).stdout
    two.run(["virsh", "-q", "undefine", name])
    two.outside(path).unlink()
    two.run(["virsh", "-q", "pool-refresh", "default"])
    one.run(["virsh", "-q", "define", "/dev/stdin"], input=xml)


if __name__ == "__main__":
    sys.exit(main())
