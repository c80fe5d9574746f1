"""The first numbers: a live move beside virsh, an offline move beside the manual's way, start-up.

``script/bench basics``; about three minutes on two cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from benchmarks.measure import Claim, allocated, lab, record, timed, twinship
from benchmarks.ssh import scp_way
from twinship_lab import Lab, LabHost
from twinship_lab.guests import GuestSpec, NewDisk, create_guest

ROUNDS = 9
GIB = 2**30
IMAGES = "/var/lib/libvirt/images"


def main() -> int:
    """Measures all, in one run."""
    claims: list[Claim] = []
    with lab(3) as (made, environment):
        claims += live_move(made, environment)
        claims += offline_move(made, environment)
        claims += listing(made, environment)
    python = sys.executable
    script = str(Path(python).with_name("twinship"))
    claims.append(
        Claim(
            name="twinship --help",
            unit="s",
            ours=[timed([script, "--help"]) for _ in range(10)],
            peer=[],
            peer_name="",
            limit=0.15,
            kind="absolute",
        )
    )
    return record("basics", claims, {"rounds": ROUNDS})


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
        took = timed(move_command(tool, here, there), environment)
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
            limit=1.3,
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


def move_command(tool: str, here: LabHost, there: LabHost) -> list[str]:
    """The same move by either tool: persistent there, gone here."""
    if tool == "ours":
        return twinship("migrate", f"{here.name}/idle", "--to", there.name)
    command = ["virsh", "-c", here.uri, "migrate", "--live", "--persistent", "--undefinesource"]
    return [*command, "idle", there.uri, "--migrateuri", f"tcp://{there.address}"]


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


def offline_move(made: Lab, environment: dict[str, str]) -> list[Claim]:
    """A shut-off VM with a 20 GiB qcow2 that holds 2 GiB, cold cache."""
    one, two = made.host("lab1"), made.host("lab2")
    spec = GuestSpec(disks=(NewDisk(size_bytes=20 * GIB, data_bytes=2 * GIB),))
    path = f"{IMAGES}/big.qcow2"
    ours: list[float] = []
    peer: list[float] = []
    flushed: list[float] = []
    create_guest(one, made.cache, "big", spec)
    size = allocated(one, path)
    for _ in range(5):
        forget_caches()
        typed, with_sync = scp_way(one, two, "big", path)
        peer.append(typed)
        flushed.append(with_sync)
        back(one, two, "big", path)
        forget_caches()
        ours.append(timed(twinship("migrate", "lab1/big", "--to", "lab2"), environment))
        arrived = allocated(two, path)
        back(one, two, "big", path)
    return [
        Claim(
            name="offline move, 20 GiB qcow2 holding 2 GiB",
            unit="s",
            ours=ours,
            peer=flushed,
            peer_name="virsh migrate --offline, scp, sync",
            limit=0.5,
        ),
        Claim(
            name="the same, against a copy left in the page cache",
            unit="s",
            ours=ours,
            peer=peer,
            peer_name="virsh migrate --offline, scp",
            limit=None,
        ),
        Claim(
            name="bytes allocated on the target by those of the source",
            unit="bytes",
            ours=[float(arrived)],
            peer=[float(size)],
            peer_name="the source file",
            limit=1.05,
        ),
    ]


def back(one: LabHost, two: LabHost, name: str, path: str) -> None:
    """As it was before the move: defined on the first host, nothing on the second."""
    xml = two.run(["virsh", "dumpxml", "--inactive", name]).stdout
    two.run(["virsh", "-q", "undefine", name])
    two.outside(path).unlink()
    two.run(["virsh", "-q", "pool-refresh", "default"])
    one.run(["virsh", "-q", "define", "/dev/stdin"], input=xml)


def forget_caches() -> None:
    """Drops the page cache, so that every run reads from the disk."""
    timed(["sync"])
    Path("/proc/sys/vm/drop_caches").write_text("3")


def listing(made: Lab, environment: dict[str, str]) -> list[Claim]:
    """``vm list`` over three hosts with 100 defined VMs each."""
    for host in made.hosts():
        define_many(host, 100)
    took = [timed(twinship("vm", "list"), environment) for _ in range(10)]
    return [
        Claim(
            name="vm list, 3 hosts, 300 VMs",
            unit="s",
            ours=took,
            peer=[],
            peer_name="",
            limit=1.0,
            kind="absolute",
        )
    ]


def define_many(host: LabHost, count: int) -> None:
    """Defines VMs without disks, by one virsh that reads its commands."""
    directory = host.outside("/run") / "many"
    directory.mkdir()
    lines = []
    for number in range(count):
        file = directory / f"{number}.xml"
        file.write_text(
            f"<domain type='qemu'><name>vm{number:03}</name><memory unit='MiB'>64</memory>"
            "<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
        )
        lines.append(f"define /run/many/{file.name}")
    host.run(["virsh", "-q"], input="\n".join(lines).encode(), timeout_s=120)


if __name__ == "__main__":
    sys.exit(main())
