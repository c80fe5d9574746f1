"""All that virt-sysprep does by default is done by us too: both on one image, file by file."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.guest_trees import DEBIAN, REDHAT, make_tree
from tests.host.test_guestfs import tcg
from twinship.guestfs import userspace
from twinship.guestfs.files import FileKind
from twinship.guestfs.image import an_image
from twinship.guestfs.inspect import identify
from twinship.guestfs.sealing import apply_seal, choose

pytestmark = [pytest.mark.host, pytest.mark.all]

__all__ = ["tcg"]

MORE: Mapping[str, str] = {
    f"{directory}/{name}": "x\n"
    for directory, names in {
        "etc": (
            "debian_version",
            "fstab",
            "thing~",
            "blkid.tab",
            "krb5.keytab",
            "shadow-",
            "group-",
            "gshadow-",
            "subuid-",
            "subgid-",
        ),
        "var/spool/abrt/dump": ("x",),
        "root": ("notes.bak", "anaconda-ks.cfg", "install.log"),
        "var/crash/dump": ("x",),
        "var/spool/at": ("a0001",),
        "var/spool/cron": ("ann",),
        "var/lib/dhclient": ("dhclient.leases",),
        "var/lib/dhcpd": ("dhcpd.leases",),
        "var/lib/dovecot": ("x",),
        "etc/ipa": ("ca.crt",),
        "var/lib/ipa-client/sysrestore": ("x",),
        "var/log/audit": ("audit.log",),
        "var/log": (
            "messages",
            "secure",
            "dmesg",
            "maillog",
            "boot.log",
            "cron",
            "lastlog",
            "wtmp",
            "btmp",
            "tallylog",
            "yum.log",
            "Xorg.0.log",
            "mysqld.log",
            "debug",
        ),
        "var/log/anaconda": ("x",),
        "var/log/rhsm": ("x.log",),
        "var/log/cups": ("access_log",),
        "var/log/httpd": ("access_log",),
        "var/log/tuned": ("tuned.log",),
        "var/log/gdm": ("x",),
        "var/log/squid": ("access.log",),
        "var/log/installer": ("x",),
        "var/log/unattended-upgrades": ("x",),
        "var/log/ConsoleKit": ("history",),
        "var/account": ("pacct",),
        "var/log/account": ("pacct",),
        "var/cache/dnf": ("x",),
        "var/cache/yum": ("x",),
        "var/cache/zypp": ("x",),
        "var/log/puppet": ("x",),
        "var/lib/puppet/state": ("state.yaml",),
        "etc/pki/consumer": ("key.pem",),
        "etc/pki/entitlement": ("1.pem",),
        "etc/sysconfig/rhn": ("systemid",),
        "var/lib/rpm": ("__db.001",),
        "var/log/samba": ("log.smbd",),
        "var/lib/samba/private": ("secrets.tdb",),
        "var/lib/samba": ("x.tdb",),
        "etc/sysconfig": ("hw-uuid",),
        "etc/smolt": ("uuid", "hw-uuid"),
        "var/log/sssd": ("x.log",),
        "var/lib/sss/db": ("cache.ldb",),
        "etc/udev/rules.d": ("70-persistent-net.rules",),
        "var/lib/yum": ("uuid",),
        "root/.ssh": ("known_hosts", "id_rsa"),
        "root/.config": ("gnome-initial-setup-done",),
        "var/mail": ("bob",),
    }.items()
    for name in names
}
KEPT = {
    "/home/ann/.ssh": "authorized keys stay: nobody shall be locked out",
    "/home/ann/.ssh/authorized_keys": "the same",
    "/var/cache/apt/archives/lock": "an empty file of apt's own",
    "/root/.ssh": "an empty directory is nobody's identity",
}
MADE_BY_PEER = ("/var/lib/random-seed", "/var/lib/urandom", "/var/lib/systemd")
"""virt-sysprep writes a random seed; ours is made by the guest itself."""


def seen(image: Path) -> dict[str, tuple[FileKind, bytes]]:
    """Everything on the disk."""
    with userspace.opened([an_image(image, "raw")], writable=False) as files:
        return {
            path: (found.kind, files.read(path) if found.kind is FileKind.FILE else b"")
            for path, found in files.walk("/")
        }


@pytest.mark.usefixtures("tcg")
@pytest.mark.parametrize("base", [DEBIAN, REDHAT], ids=["debian", "redhat"])
def test_nothing_that_virt_sysprep_removes_or_changes_is_left_by_us(
    tmp_path: Path, base: Mapping[str, str]
) -> None:
    more = dict(MORE)
    if base is REDHAT:
        del more["etc/debian_version"]
        more["etc/redhat-release"] = "Rocky Linux release 9.4\n"
    more["etc/fstab"] = "proc /proc proc x 0 0\n"
    tree = make_tree(tmp_path / "tree", {**base, **more})
    for name in ("bin", "boot", "dev", "proc", "usr/lib64"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    (tree / "bin/sh").write_bytes(Path("/bin/busybox").read_bytes())
    theirs, ours = tmp_path / "theirs.raw", tmp_path / "ours.raw"
    for image in (theirs, ours):
        with image.open("wb") as file:
            file.truncate(128 * 1024 * 1024)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, image], check=True)
    before = seen(ours)

    peer = subprocess.run(
        ["virt-sysprep", "-q", "-a", theirs], capture_output=True, text=True, check=False
    )
    assert peer.returncode == 0, peer.stderr
    with userspace.opened([an_image(ours, "raw")], writable=True) as files:
        apply_seal(files, identify(files), choose())

    after_peer, after_us = seen(theirs), seen(ours)
    touched = {path for path, was in before.items() if after_peer.get(path) != was}
    assert len(touched) > 60, "the peer found something to do"
    left = {
        path
        for path in touched
        if after_us.get(path) == before[path]
        and path not in KEPT
        and not path.startswith(MADE_BY_PEER)
    }
    assert left == set()
