"""Clones beside virt-clone: full, reflinked, linked, many, and to another host.

``script/bench clone``; about six minutes. Both tools run in turn, on one disk with a cold cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import (
    GIB,
    IMAGES,
    Claim,
    allocated,
    forget_caches,
    lab,
    record,
    timed,
    twinship,
)
from twinship_lab import Lab, LabHost
from twinship_lab.guests import GuestSpec, Load, NewDisk, create_guest

ROUNDS = 2
QUICK_ROUNDS = 5
DATA = 2 * GIB
REFLINKED = 10 * GIB
"""What a reflink shares and virt-clone copies: its time grows with it, ours does not."""


def main() -> int:
    """Measures all, in one run."""
    claims: list[Claim] = []
    with lab(2) as (made, environment):
        for size, form, limit in (
            (8 * GIB, "raw", 1 / 4),
            (20 * GIB, "raw", 1 / 10),
            (8 * GIB, "qcow2", 1 / 2),
        ):
            claims += full(made, environment, size, form, limit)
        claims += linked(made, environment)
        claims += across(made, environment)
        claims += running(made, environment)
        with xfs(made.host("lab1")):
            claims += reflinked(made)
    return record("clone", claims, {"rounds": ROUNDS})


def full(made: Lab, environment: dict[str, str], size: int, form: str, limit: float) -> list[Claim]:
    """A full copy of a disk with 2 GiB of data, over the connection to the host."""
    host = made.host("lab1")
    disk = NewDisk(size_bytes=size, format=form, data_bytes=DATA)
    create_guest(host, made.cache, "big", GuestSpec(disks=(disk,)))
    source, file = f"{IMAGES}/big.{form}", f"{IMAGES}/copy.{form}"
    ours: list[float] = []
    peer: list[float] = []
    convert: list[float] = []
    for _ in range(ROUNDS):
        forget_caches()
        peer.append(timed(virt_clone(host, "big", "copy", file)) + timed(["sync"]))
        remove(host, "copy", file)
        forget_caches()
        ours.append(timed(twinship("clone", "lab1/big", "copy"), environment) + timed(["sync"]))
        remove(host, "copy", file)
        if form == "qcow2":
            forget_caches()
            convert.append(in_host(host, *_convert(source, file)))
            remove(host, None, file)
    remove(host, "big", source)
    what = f"full clone, {form} {size // GIB} GiB with 2 GiB data"
    claims = [Claim(name=what, unit="s", ours=ours, peer=peer, peer_name="virt-clone", limit=limit)]
    if convert:
        peer_name = "qemu-img convert -W -m16 -t none -T none"
        claims.append(
            Claim(name=what, unit="s", ours=ours, peer=convert, peer_name=peer_name, limit=1.15)
        )
    return claims


def _convert(source: str, target: str) -> tuple[str, ...]:
    direct = ("-W", "-m", "16", "-t", "none", "-T", "none")
    return ("qemu-img", "convert", *direct, "-f", "qcow2", "-O", "qcow2", source, target)


def linked(made: Lab, environment: dict[str, str]) -> list[Claim]:
    """Linked clones: one, and a hundred in one command."""
    host = made.host("lab1")
    disk = NewDisk(size_bytes=GIB, data_bytes=64 * 2**20)
    create_guest(host, made.cache, "base", GuestSpec(disks=(disk,)))
    one = []
    for number in range(10):
        command = twinship("clone", "lab1/base", f"one{number}", "--mode", "linked")
        one.append(timed(command, environment))
    many = ["--count", "100", "--name", "many{n:03}", "--mode", "linked"]
    hundred = [timed(twinship("clone", "lab1/base", *many), environment)]
    names = [f"one{number}" for number in range(10)]
    names += [f"many{number:03}" for number in range(1, 101)]
    for name in names:
        remove(host, name, f"{IMAGES}/{name}.qcow2")
    remove(host, "base", f"{IMAGES}/base.qcow2")
    return [
        Claim(
            name="linked clone, the whole command",
            unit="s",
            ours=one,
            peer=[],
            peer_name="",
            limit=0.4,
            kind="absolute",
        ),
        Claim(
            name="100 linked clones in one command",
            unit="s",
            ours=hundred,
            peer=[],
            peer_name="",
            limit=10.0,
            kind="absolute",
        ),
    ]


def across(made: Lab, environment: dict[str, str]) -> list[Claim]:
    """A clone on another host: what goes over the wire, by the interface's own count."""
    one, two = made.host("lab1"), made.host("lab2")
    disk = NewDisk(size_bytes=20 * GIB, data_bytes=DATA)
    create_guest(one, made.cache, "far", GuestSpec(disks=(disk,)))
    data = allocated(one, f"{IMAGES}/far.qcow2")
    before = received(two)
    took = timed(twinship("clone", "lab1/far", "near", "--to", "lab2"), environment)
    wire = received(two) - before
    remove(two, "near", f"{IMAGES}/near.qcow2")
    remove(one, "far", f"{IMAGES}/far.qcow2")
    return [
        Claim(
            name="clone to another host, bytes on the wire by those of the data",
            unit="bytes",
            ours=[float(wire)],
            peer=[float(data)],
            peer_name="the source's data",
            limit=1.1,
        ),
        Claim(
            name="clone to another host, 20 GiB with 2 GiB data",
            unit="s",
            ours=[took],
            peer=[],
            peer_name="",
            limit=None,
            kind="absolute",
        ),
    ]


def running(made: Lab, environment: dict[str, str]) -> list[Claim]:
    """A clone of a guest that writes to two disks; the gap is what the guest itself measured."""
    host = made.host("lab1")
    disks = tuple(NewDisk(size_bytes=8 * GIB, format="raw", data_bytes=GIB) for _ in range(2))
    load = Load(disk_bytes_s=4_000_000)
    spec = GuestSpec(disks=disks, memory_mib=128, load=load, start=True)
    create_guest(host, made.cache, "busy", spec)
    gaps, took = [], []
    for _ in range(ROUNDS):
        ticks(host, "busy", reset=True)
        took.append(timed(twinship("clone", "lab1/busy", "still"), environment))
        time.sleep(2.2)  # the guest's clock shows a stop at its next full second
        gaps.append(float(str(ticks(host, "busy")["longest_gap_s"])))
        remove(host, "still", f"{IMAGES}/still-vda.raw")
        host.run(["rm", "-f", f"{IMAGES}/still-vdb.raw"])
    host.run(["virsh", "-q", "destroy", "busy"])
    remove(host, "busy", f"{IMAGES}/busy.raw")
    host.run(["rm", "-f", f"{IMAGES}/busy-vdb.raw"])
    what = "clone of a running guest, two raw disks of 8 GiB with 1 GiB data each"
    return [
        Claim(
            name=f"{what}: the guest's longest gap",
            unit="s",
            ours=gaps,
            peer=[],
            peer_name="",
            limit=1.0,
            kind="absolute",
        ),
        Claim(name=what, unit="s", ours=took, peer=[], peer_name="", limit=None, kind="absolute"),
    ]


def ticks(host: LabHost, name: str, *, reset: bool = False) -> dict[str, object]:
    """What the micro guest says of itself; waits until it is up."""
    command = json.dumps({"execute": "twinship-ticks", "arguments": {"reset": reset}})
    for _ in range(400):
        done = host.run(["virsh", "qemu-agent-command", name, command], check=False)
        if done.returncode == 0:
            answer: dict[str, object] = json.loads(done.stdout)["return"]
            return answer
        time.sleep(0.05)
    raise SystemExit(f"{name} does not answer")


def reflinked(made: Lab) -> list[Claim]:
    """On XFS, the commands run on the host itself; the source's data is read from the disk."""
    host = made.host("lab1")
    disk = NewDisk(size_bytes=REFLINKED + GIB, data_bytes=REFLINKED)
    host.run(["qemu-img", "create", "-q", "-f", "qcow2", f"{IMAGES}/x.qcow2", str(REFLINKED + GIB)])
    for number in range(REFLINKED // GIB):  # qemu-io writes less than 2 GiB at once
        pattern = f"write -q -P {number + 1} {number * GIB} {GIB}"
        host.run(["qemu-io", "-f", "qcow2", "-c", pattern, f"{IMAGES}/x.qcow2"], timeout_s=300)
    host.run(["virsh", "-q", "pool-refresh", "default"])
    xml = (
        "<domain type='qemu'><name>x</name><memory unit='MiB'>32</memory><os><type "
        "arch='x86_64' machine='pc'>hvm</type></os><devices><disk type='file' device='disk'>"
        f"<driver name='qemu' type='{disk.format}'/><source file='{IMAGES}/x.qcow2'/>"
        "<target dev='vda' bus='virtio'/></disk></devices></domain>"
    )
    host.run(["virsh", "-q", "define", "/dev/stdin"], input=xml.encode())
    ours: list[float] = []
    peer: list[float] = []
    script = str(Path(sys.executable).with_name("twinship"))
    with tempfile.TemporaryDirectory() as state:
        for _ in range(QUICK_ROUNDS):
            forget_file(host, f"{IMAGES}/x.qcow2")
            peer.append(in_host(host, *_local_virt_clone("x", "y", f"{IMAGES}/y.qcow2")))
            remove(host, "y", f"{IMAGES}/y.qcow2")
            forget_file(host, f"{IMAGES}/x.qcow2")
            command = ("env", f"TWINSHIP_STATE_DIR={state}", script, "clone", "x", "y")
            ours.append(in_host(host, *command))
            remove(host, "y", f"{IMAGES}/y.qcow2")
    host.run(["virsh", "-q", "undefine", "x"])
    size = REFLINKED // GIB
    what = f"reflinked clone, qcow2 with {size} GiB data on XFS, the whole command"
    return [
        Claim(name=what, unit="s", ours=ours, peer=peer, peer_name="virt-clone", limit=1 / 30),
        Claim(
            name=what,
            unit="s",
            ours=ours,
            peer=[],
            peer_name="",
            limit=0.4,
            kind="absolute",
        ),
    ]


@contextmanager
def xfs(host: LabHost) -> Iterator[None]:
    """The host's images lie on an XFS of their own meanwhile."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        image = Path(directory) / "xfs.img"
        with image.open("wb") as file:
            file.truncate(2 * REFLINKED + 4 * GIB)
        subprocess.run(["mkfs.xfs", "-q", str(image)], check=True)
        host.run(["mount", "-o", "loop", str(image), IMAGES])
        host.run(["virsh", "-q", "pool-refresh", "default"])
        try:
            yield
        finally:
            host.run(["umount", "-l", IMAGES])


def forget_file(host: LabHost, path: str) -> None:
    """Drops a file from the page cache, and nothing else: both tools' own files stay there."""
    timed(["sync"])
    host.run(["dd", f"of={path}", "oflag=nocache", "conv=notrunc,fdatasync", "count=0"])


def virt_clone(host: LabHost, name: str, new: str, file: str) -> list[str]:
    """virt-clone over the same connection as ours."""
    return ["virt-clone", "--connect", host.uri, "-o", name, "-n", new, "-f", file, "-q"]


def _local_virt_clone(name: str, new: str, file: str) -> tuple[str, ...]:
    return ("virt-clone", "--connect", "qemu:///system", "-o", name, "-n", new, "-f", file, "-q")


def in_host(host: LabHost, *command: str) -> float:
    """Seconds a command takes on the host itself."""
    return timed(host.entering(command))


def remove(host: LabHost, name: str | None, file: str) -> None:
    """A VM and its file are gone."""
    if name is not None:
        host.run(["virsh", "-q", "undefine", name])
    host.run(["rm", "-f", file])
    host.run(["virsh", "-q", "pool-refresh", "default"])


def received(host: LabHost) -> int:
    """Bytes the host's data interface has received."""
    text = host.run(["cat", "/proc/net/dev"]).stdout.decode()
    rows = [line.split() for line in text.splitlines()[2:]]
    return sum(int(row[1]) for row in rows if row[0] != "lo:")


if __name__ == "__main__":
    raise SystemExit(main())
