"""The files a host is born with: libvirt's configuration, its pool, its names."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from twinship_lab.inside import OWN_DIRECTORIES

IMAGES = "/var/lib/libvirt/images"

_LIBVIRTD = """\
host_uuid = "{uuid}"
listen_tls = 0
listen_tcp = 1
listen_addr = "{address}"
tcp_port = "16509"
auth_tcp = "none"
unix_sock_group = "root"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
max_clients = 1000
max_anonymous_clients = 200
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""

# No cgroups, mount namespaces or security labels: the host's own namespaces have none to give.
_QEMU = """\
user = "root"
group = "root"
dynamic_ownership = 1
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
swtpm_user = "root"
swtpm_group = "root"
migration_address = "{address}"
migration_host = "{address}"
"""

_POOL = f"""\
<pool type='dir'>
  <name>default</name>
  <target><path>{IMAGES}</path></target>
</pool>
"""

# libvirtd's built-in QEMU user must exist even where qemu.conf names another (virGetUserID fails
# otherwise); a machine with libvirt's files but without its package's users lacks it.
_ACCOUNTS = {
    "passwd": ("libvirt-qemu:x:64055:64055:QEMU:/var/lib/libvirt:/usr/sbin/nologin",),
    "group": ("kvm:x:64054:", "libvirt-qemu:x:64055:", "libvirt:x:64056:"),
}


@dataclass(frozen=True, slots=True)
class HostIdentity:
    """What makes one host differ from another."""

    name: str
    uuid: str
    address: str


def write_host_files(root: Path, identity: HostIdentity) -> None:
    """The host's directories and configuration below ``root``; images and domains stay.

    To be called while the host is down: ``/run`` is emptied, as by a boot.
    """
    shutil.rmtree(root / "run", ignore_errors=True)
    for path in (*OWN_DIRECTORIES, IMAGES, "/run/lock", "/etc/libvirt/storage/autostart"):
        (root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    (root / "etc/hostname").write_text(f"{identity.name}\n")
    (root / "etc/hosts").touch()
    for file, lines in _ACCOUNTS.items():
        (root / "etc" / file).write_text(_with_accounts(Path("/etc", file).read_text(), lines))
    libvirt = root / "etc/libvirt"
    values = {"uuid": identity.uuid, "address": identity.address}
    (libvirt / "libvirtd.conf").write_text(_LIBVIRTD.format(**values))
    (libvirt / "qemu.conf").write_text(_QEMU.format(**values))
    pool = libvirt / "storage/default.xml"
    if not pool.exists():
        pool.write_text(_POOL)
        (libvirt / "storage/autostart/default.xml").symlink_to("/etc/libvirt/storage/default.xml")


def write_names(root: Path, addresses: Mapping[str, str]) -> None:
    """The host's ``/etc/hosts``. Written in place: the file is a mount point inside."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
    lines += [f"{address} {name}" for name, address in addresses.items()]
    (root / "etc/hosts").write_text("\n".join(lines) + "\n")


def _with_accounts(text: str, lines: tuple[str, ...]) -> str:
    """A passwd or group file with these lines, where their names were not in it."""
    known = {line.split(":")[0] for line in text.splitlines()}
    missing = [line for line in lines if line.split(":")[0] not in known]
    return "".join(f"{line}\n" for line in (*text.splitlines(), *missing))
