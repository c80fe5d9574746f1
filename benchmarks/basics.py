"""The first numbers: a list of many VMs, and how long the command takes to start.

``script/bench basics``; about a minute on two cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.measure import Claim, lab, record, timed, twinship
from twinship_lab import Lab, LabHost

ROUNDS = 10


def main() -> int:
    """Measures all, in one run."""
    claims: list[Claim] = []
    with lab(3) as (made, environment):
        claims += listing(made, environment)
    python = sys.executable
    script = str(Path(python).with_name("twinship"))
    claims.append(
        Claim(
            name="twinship --help",
            unit="s",
            ours=[timed([script, "--help"]) for _ in range(ROUNDS)],
            peer=[],
            peer_name="",
            limit=0.15,
            kind="absolute",
        )
    )
    return record("basics", claims, {"rounds": ROUNDS})


def listing(made: Lab, environment: dict[str, str]) -> list[Claim]:
    """``vm list`` over three hosts with 100 defined VMs each."""
    for host in made.hosts():
        define_many(host, 100)
    took = [timed(twinship("vm", "list"), environment) for _ in range(ROUNDS)]
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
