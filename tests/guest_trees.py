"""Guests' files as directory trees: what sealing is tried on, without a disk or with one.

``TreeFiles`` is what both real engines end in; over a plain directory it needs neither. So the
files here are a fake disk, not a fake implementation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twinship.guestfs.tree import TreeFiles

DEBIAN: Mapping[str, str] = {
    "etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "etc/fstab": "UUID=0 / ext4 defaults 0 1\nUUID=1 none swap sw 0 0\nproc /proc proc x 0 0\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/hostname": "web1\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n127.0.1.1\tweb1.example.org\tweb1\n10.0.0.9\tdb web1\n",
    "etc/ssh/ssh_host_ed25519_key": "secret\n",
    "etc/ssh/ssh_host_ed25519_key.pub": "public\n",
    "etc/ssh/sshd_config": "PasswordAuthentication no\n",
    "etc/passwd": "root:x:0:0::/root:/bin/bash\nann:x:1000:1000::/home/ann:/bin/sh\n"
    "bad:x:1001:1001::/:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n",
    "etc/passwd-": "old\n",
    "etc/shadow": "root:*:1::::::\nann:$6$hash:1::::::\n",
    "etc/group": "root:x:0:\nsudo:x:27:ann,bob\nann:x:1000:\n",
    "etc/systemd/system/other.service": "[Unit]\n",
    "etc/systemd/system/multi-user.target.wants/keep": "",
    "etc/netplan/50-cloud-init.yaml": "network:\n  ethernets:\n    ens3:\n      dhcp4: true\n"
    '      match:\n        macaddress: "52:54:00:01:02:03"\n      set-name: ens3\n',
    "etc/network/interfaces": "iface ens3 inet static\n  address 10.0.0.5/24\n",
    "etc/NetworkManager/system-connections/wired.nmconnection": "[connection]\nid=wired\n"
    "uuid=6e5d7d8e-2f3c-4f6a-9f7e-0d1c2b3a4f5e\n\n[ethernet]\nmac-address=52:54:00:01:02:03\n\n"
    "[ipv4]\nmethod=manual\naddress1=10.0.0.5/24,10.0.0.1\ndns=10.0.0.1;\n",
    "etc/iscsi/initiatorname.iscsi": "InitiatorName=iqn.1993-08.org.debian:01:abc\n",
    "root/.bash_history": "mysql -psecret\n",
    "home/ann/.ssh/authorized_keys": "ssh-ed25519 AAAA ann\n",
    "home/ann/.ssh/id_ed25519": "private\n",
    "home/ann/.zsh_history": ": 1:0;ls\n",
    "home/ann/notes": "mine\n",
    "usr/bin/cloud-init": "",
    "usr/sbin/sshd": "",
    "usr/lib/systemd/systemd": "",
    "var/lib/systemd/random-seed": "r" * 512,
    "var/lib/systemd/credential.secret": "s" * 64,
    "var/lib/cloud/instances/i-1/sem/config_ssh": "x",
    "var/lib/cloud/seed/nocloud/meta-data": "instance-id: 1\n",
    "var/lib/NetworkManager/secret_key": "k",
    "var/lib/NetworkManager/NetworkManager-intern.conf": "[main]\n",
    "var/lib/dhcp/dhclient.ens3.leases": "lease {}\n",
    "var/log/auth.log": "a" * 5000,
    "var/log/auth.log.1": "b" * 3000,
    "var/log/journal/0123456789abcdef0123456789abcdef/system.journal": "j" * 8192,
    "var/log/apt/history.log": "h" * 100,
    "var/cache/apt/archives/a.deb": "d" * 700,
    "var/cache/apt/archives/lock": "",
    "var/spool/cron/crontabs/ann": "@daily true\n",
    "var/spool/cron/atjobs/.SEQ": "0000a\n",
    "var/mail/ann": "mail",
    "tmp/.X11-unix/X0": "",
    "var/tmp/thing": "t",
}
REDHAT: Mapping[str, str] = {
    "etc/os-release": 'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n',
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/ssh/ssh_host_rsa_key": "secret\n",
    "etc/sysconfig/network-scripts/ifcfg-eth0": "DEVICE=eth0\nBOOTPROTO=none\n"
    "HWADDR=52:54:00:1:2:3\nUUID=6e5d\nIPADDR=10.0.0.5\nPREFIX=24\nONBOOT=yes\n",
    "etc/iscsi/initiatorname.iscsi": "InitiatorName=iqn.1994-05.com.redhat:abc\n",
    "etc/lvm/devices/system.devices": "IDTYPE=sys_wwid\n",
    "etc/pki/consumer/cert.pem": "cert\n",
    "usr/lib/systemd/system/sshd-keygen@.service": "[Unit]\n",
    "usr/lib/systemd/system/lvm-devices-import.path": "[Path]\n",
    "usr/lib/systemd/systemd": "",
    "usr/sbin/sshd": "",
}


def make_tree(root: Path, files: Mapping[str, str]) -> Path:
    """Writes the files below ``root``, and the links every guest has."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    dbus = root / "var/lib/dbus"
    dbus.mkdir(parents=True, exist_ok=True)
    (dbus / "machine-id").symlink_to("/etc/machine-id")
    spool = root / "var/spool"
    spool.mkdir(parents=True, exist_ok=True)
    (spool / "mail").symlink_to("../mail")
    (root / "var/run").symlink_to("/run")
    (root / "run").mkdir()
    return root


@contextmanager
def tree_files(root: Path, **how: Any) -> Iterator[TreeFiles]:
    """The files below a plain directory; ``how`` as :class:`TreeFiles` takes it."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield TreeFiles(fd, **how)
    finally:
        os.close(fd)
