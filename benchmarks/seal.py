"""Sealing beside virt-sysprep: a plain Debian, ten guests on XFS and LVM, and a template's clones.

``script/bench seal``; about fifteen minutes where nothing accelerates libguestfs's appliance, of
which virt-sysprep takes twelve. Ours is the whole command, with Python's start and its journal;
virt-sysprep is given the files directly.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from benchmarks.clone import in_host
from benchmarks.measure import Claim, lab, record, timed, twinship
from twinship_lab import Lab, LabHost
from twinship_lab.guests import GuestSpec, acceleration, build, create_guest
from twinship_lab.guests.debian import DISK_BYTES, build_debian

ROUNDS = 3
MANY = 10
IMAGES = "/var/lib/libvirt/images"
PEER = "virt-sysprep"


def main() -> int:
    """Measures all, in one run."""
    claims: list[Claim] = []
    with lab(1) as (made, environment):
        environment |= appliance_environment(made)
        os.environ.update(environment)
        claims += plain(made, environment)
        claims += on_lvm(made, environment)
        claims += template(made, environment)
    return record("seal", claims, {"rounds": ROUNDS, "guests": MANY})


def appliance_environment(made: Lab) -> dict[str, str]:
    """What libguestfs needs here, for both: a kernel, and no KVM where no Linux boots under it."""
    found = {"LIBGUESTFS_BACKEND": "direct"}
    if acceleration(made.cache, build(made.cache)) != "kvm":
        found["LIBGUESTFS_BACKEND_SETTINGS"] = "force_tcg"
    kernels = sorted((made.cache / "appliance/boot").glob("vmlinuz-*"))
    if kernels and not list(Path("/boot").glob("vmlinuz-*")):
        version = kernels[-1].name.removeprefix("vmlinuz-")
        found["SUPERMIN_KERNEL"] = str(kernels[-1])
        found["SUPERMIN_KERNEL_VERSION"] = version
        found["SUPERMIN_MODULES"] = str(made.cache / "appliance/lib/modules" / version)
    return found


def plain(made: Lab, environment: dict[str, str]) -> list[Claim]:
    """One Debian on a plain ext4, over the connection and on the host itself."""
    host = made.host("lab1")
    image = build_debian(made.cache).image
    ours: list[float] = []
    here: list[float] = []
    peer: list[float] = []
    create_guest(host, made.cache, "web", GuestSpec(debian=True))
    disk = host.outside(f"{IMAGES}/web.qcow2")
    with tempfile.TemporaryDirectory() as state:
        for _ in range(ROUNDS):
            fresh(image, disk)
            peer.append(timed(["virt-sysprep", "-q", "-a", str(disk)]) + timed(["sync"]))
            fresh(image, disk)
            seal = twinship("seal", "web", "--commit")
            ours.append(timed(seal, environment) + timed(["sync"]))
            fresh(image, disk)
            local = ("env", f"TWINSHIP_STATE_DIR={state}", seal[0], *seal[2:])
            here.append(in_host(host, *local) + timed(["sync"]))
    gone(host, "web")
    what = "seal a Debian on a plain ext4, the whole command"
    return [
        Claim(name=what, unit="s", ours=here, peer=peer, peer_name=PEER, limit=1 / 10),
        Claim(
            name=f"{what}, over the host's libvirt alone",
            unit="s",
            ours=ours,
            peer=peer,
            peer_name=PEER,
            limit=1 / 10,
        ),
    ]


def on_lvm(made: Lab, environment: dict[str, str]) -> list[Claim]:
    """Ten guests on XFS on LVM: one command and one appliance beside ten runs."""
    host = made.host("lab1")
    names = [f"x{number}" for number in range(MANY)]
    disks = [host.outside(f"{IMAGES}/{name}.raw") for name in names]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as work:
        image = lvm_image(made, Path(work))
        for name, disk in zip(names, disks, strict=True):
            fresh(image, disk)
            define(host, name)
        host.run(["virsh", "-q", "pool-refresh", "default"])
        with tempfile.TemporaryDirectory() as state:
            program = twinship()[0]
            seal = ("env", f"TWINSHIP_STATE_DIR={state}", program, "seal", *names, "--commit")
            ours = [in_host(host, *seal) + timed(["sync"])]
        for disk in disks:
            fresh(image, disk)
        each = [timed(["virt-sysprep", "-q", "-a", str(disk)]) for disk in disks]
        peer = [sum(each) + timed(["sync"])]
    for name in names:
        gone(host, name, "raw")
    what = f"seal {MANY} Debian guests on XFS on LVM"
    return [Claim(name=what, unit="s", ours=ours, peer=peer, peer_name=PEER, limit=1 / 4)]


def template(made: Lab, environment: dict[str, str]) -> list[Claim]:
    """A template of an installed Debian, ten linked clones of it, and their start."""
    host = made.host("lab1")
    create_guest(host, made.cache, "installed", GuestSpec(debian=True))
    timed(["sync"])
    took = timed(twinship("template", "create", "golden", "--from", "installed"), environment)
    words = ("--count", str(MANY), "--name", "c{n}", "--start")
    took += timed(twinship("clone", "golden", *words), environment)
    return [
        Claim(
            name=f"template create, then {MANY} linked clones of it, started: two commands",
            unit="s",
            ours=[took],
            peer=[],
            peer_name="",
            limit=60,
            kind="absolute",
        )
    ]


def lvm_image(made: Lab, work: Path) -> Path:
    """The lab's Debian on an XFS in a logical volume."""
    image, archive, raw = work / "lvm.raw", work / "tree.tar", work / "debian.raw"
    debian = build_debian(made.cache).image
    convert = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(debian), str(raw)]
    subprocess.run(convert, check=True)
    script = (
        f"sparse {image} {DISK_BYTES}\nadd-ro {raw}\nrun\npart-disk /dev/sda gpt\n"
        "pvcreate /dev/sda1\nvgcreate vg /dev/sda1\nlvcreate-free root vg 100\n"
        f"mkfs xfs /dev/vg/root\nmount-ro /dev/sdb /\ntar-out / {archive}\numount /\n"
        f"mount /dev/vg/root /\ntar-in {archive} /\n"
        'write /etc/fstab "/dev/vg/root / xfs defaults 0 1\\n"\n'
    )
    subprocess.run(["guestfish"], input=script.encode(), check=True, timeout=600)
    return image


def define(host: LabHost, name: str) -> None:
    """A VM over that disk; it is never started."""
    xml = (
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><os><type "
        "arch='x86_64' machine='pc'>hvm</type></os><devices><disk type='file' device='disk'>"
        f"<driver name='qemu' type='raw'/><source file='{IMAGES}/{name}.raw'/>"
        "<target dev='vda' bus='virtio'/></disk></devices></domain>"
    )
    host.run(["virsh", "-q", "define", "/dev/stdin"], input=xml.encode())


def fresh(image: Path, disk: Path) -> None:
    """The disk as it was installed, on the storage."""
    subprocess.run(["cp", "--sparse=always", str(image), str(disk)], check=True)
    timed(["sync"])


def gone(host: LabHost, name: str, form: str = "qcow2") -> None:
    """A VM and its disk."""
    host.run(["virsh", "-q", "undefine", name])
    host.run(["rm", "-f", f"{IMAGES}/{name}.{form}"])
    host.run(["virsh", "-q", "pool-refresh", "default"])


if __name__ == "__main__":
    raise SystemExit(main())
