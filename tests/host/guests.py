"""Disks with a guest's files on them, for VMs of the lab."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.guest_trees import DEBIAN, make_tree
from tests.host.world import IMAGES, MIB
from twinship_lab import LabHost

PLAIN: Mapping[str, str] = {name: text for name, text in DEBIAN.items() if name != "etc/fstab"}
"""A Debian guest whose fstab names nothing but what every guest mounts."""


def guest_disk(
    host: LabHost,
    file: str,
    work: Path,
    *,
    form: str = "qcow2",
    files: Mapping[str, str] = PLAIN,
    size_bytes: int = 64 * MIB,
) -> str:
    """Makes a disk with these files in an ext4; returns its path on the host."""
    tree = make_tree(work / f"tree-{file}", files)
    outside = host.outside(f"{IMAGES}/{file}")
    raw = outside if form == "raw" else work / f"{file}.raw"
    with raw.open("wb") as made:
        made.truncate(size_bytes)
    tool("mke2fs", "-q", "-t", "ext4", "-d", tree, raw)
    if form != "raw":
        tool("qemu-img", "convert", "-f", "raw", "-O", form, raw, outside)
        raw.unlink()
    shutil.rmtree(tree)
    return f"{IMAGES}/{file}"


def text_of(host: LabHost, path: str, name: str, work: Path, form: str = "qcow2") -> str:
    """A file of the guest on a disk; ``<missing>`` where there is none."""
    raw = work / "looked-at"
    tool("qemu-img", "convert", "-f", form, "-O", "raw", host.outside(path), raw)
    done = subprocess.run(
        ["debugfs", "-R", f"cat {name}", raw], capture_output=True, text=True, check=True
    )
    raw.unlink()
    return "<missing>" if "File not found" in done.stderr else done.stdout


def content(host: LabHost, path: str, form: str = "qcow2") -> str:
    """A digest of all that a guest sees of a disk."""
    import hashlib
    import tempfile

    with tempfile.NamedTemporaryFile() as raw:
        tool("qemu-img", "convert", "-f", form, "-O", "raw", host.outside(path), raw.name)
        return hashlib.sha256(Path(raw.name).read_bytes()).hexdigest()


def tool(*argv: str | Path) -> None:
    done = subprocess.run([str(word) for word in argv], capture_output=True, check=False)
    assert done.returncode == 0, (argv, done.stderr)
