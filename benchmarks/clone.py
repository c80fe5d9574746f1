"""Clones beside virt-clone: full, reflinked, linked, many, and to another host.

``script/bench clone``; about six minutes. Both tools run in turn, on one disk with a cold cache.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.basics import GIB, IMAGES, forget_caches
from benchmarks.measure import Claim, allocated, lab, record, timed, twinship
from twinship_lab import Lab, LabHost
from twinship_lab.guests import GuestSpec, NewDisk, create_guest

ROUNDS = 2
DATA = 2 * GIB


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


def reflinked(made: Lab) -> list[Claim]:
    """On XFS, the commands run on the host itself."""
    host = made.host("lab1")
    disk = NewDisk(size_bytes=8 * GIB, data_bytes=DATA)
    host.run(["qemu-img", "create", "-q", "-f", "qcow2", f"{IMAGES}/x.qcow2", str(8 * GIB)])
    quarter = DATA // 4  # qemu-io writes less than 2 GiB at once
    for number in range(4):
        pattern = f"write -q -P 7 {number * quarter} {quarter}"
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
        for _ in range(ROUNDS):
            forget_caches()
            peer.append(in_host(host, *_local_virt_clone("x", "y", f"{IMAGES}/y.qcow2")))
            remove(host, "y", f"{IMAGES}/y.qcow2")
            command = ("env", f"TWINSHIP_STATE_DIR={state}", script, "clone", "x", "y")
            ours.append(in_host(host, *command))
            remove(host, "y", f"{IMAGES}/y.qcow2")
    host.run(["virsh", "-q", "undefine", "x"])
    what = "reflinked clone, qcow2 on XFS, the whole command"
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
            file.truncate(12 * GIB)
        subprocess.run(["mkfs.xfs", "-q", str(image)], check=True)
        host.run(["mount", "-o", "loop", str(image), IMAGES])
        host.run(["virsh", "-q", "pool-refresh", "default"])
        try:
            yield
        finally:
            host.run(["umount", "-l", IMAGES])


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
