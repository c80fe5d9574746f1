"""Rows for what tells one machine from another: ids, keys, secrets, names."""

from __future__ import annotations

import re
from collections.abc import Iterator

from twinship.guestfs.files import FileKind, GuestFiles, content_of
from twinship.guestfs.inspect import Family, Guest
from twinship.guestfs.sealing.edits import without_own_name, without_shell_keys
from twinship.guestfs.sealing.operation import (
    Act,
    EditFiles,
    Link,
    Operation,
    Remove,
    RenewGroups,
    Say,
    Truncate,
    Write,
    removing,
)

_DBUS_ID = "/var/lib/dbus/machine-id"
_HOST_KEYS = ("/etc/ssh/ssh_host_*", "/etc/dropbear/dropbear_*_host_key")
_MAKES_HOST_KEYS = (
    "/usr/lib/systemd/system/sshd-keygen*",
    "/lib/systemd/system/sshd-keygen*",
    "/usr/lib/systemd/system/sshdgenkeys.service",
    "/etc/systemd/system/twinship-ssh-host-keys.service",
)
_MAKES_THEM_ITSELF = frozenset((Family.SUSE, Family.ALPINE))
_CREDENTIALS_KEY = "/var/lib/systemd/credential.secret"
_LVM_DEVICES = ("/etc/lvm/devices/*.devices", "/etc/lvm/devices/backup/*")
_LVM_IMPORT = "/etc/lvm/devices/auto-import-rootvg"
_INITIATOR = "/etc/iscsi/initiatorname.iscsi"
_UNIT = "twinship-ssh-host-keys.service"
_UNIT_TEXT = b"""\
# Written when this machine was sealed: its SSH host keys were removed, and nothing else in this
# system makes new ones.
[Unit]
Description=SSH host keys for a sealed machine
After=cloud-init.service
Before=ssh.service sshd.service
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
"""
_HOSTNAME = re.compile(rb"^\s*HOSTNAME\s*=\s*[\"']?([^\"'\s]+)", re.MULTILINE)


def _machine_id(files: GuestFiles, guest: Guest) -> Iterator[Act]:
    if content_of(files, "/etc/machine-id", 64).strip() != b"uninitialized":
        yield Truncate(("/etc/machine-id",))
    found = files.lstat(_DBUS_ID)
    if found is not None and found.kind is FileKind.FILE:
        yield Remove((_DBUS_ID,))


def _ssh_host_keys(files: GuestFiles, guest: Guest) -> Iterator[Act]:
    if not any(files.glob(pattern) for pattern in _HOST_KEYS):
        return
    serves = any(files.resolve(path) for path in ("/usr/sbin/sshd", "/usr/bin/sshd"))
    itself = guest.family in _MAKES_THEM_ITSELF or any(map(files.glob, _MAKES_HOST_KEYS))
    if serves and not itself:
        if not guest.systemd:
            yield Say("SSH host keys stay: this system would not make new ones (no systemd)")
            return
        yield Write(f"/etc/systemd/system/{_UNIT}", _UNIT_TEXT)
        yield Link(f"/etc/systemd/system/multi-user.target.wants/{_UNIT}", f"../{_UNIT}")
    yield Remove(_HOST_KEYS)


def _credential_secret(files: GuestFiles, guest: Guest) -> Iterator[Act]:
    if files.listdir("/etc/credstore.encrypted"):
        yield Say("credential.secret stays: /etc/credstore.encrypted can only be read with it")
        return
    yield Remove((_CREDENTIALS_KEY,))


def _hosts(files: GuestFiles, guest: Guest) -> Iterator[Act]:
    names = set()
    for path in ("/etc/hostname", "/etc/HOSTNAME"):
        words = content_of(files, path, 4096).split()
        names |= {word.decode("utf-8", "surrogateescape") for word in words[:1]}
    if found := _HOSTNAME.search(content_of(files, "/etc/sysconfig/network", 65536)):
        names.add(found[1].decode("utf-8", "surrogateescape"))
    yield EditFiles(("/etc/hosts",), without_own_name(names))


def _iscsi(files: GuestFiles, guest: Guest) -> Iterator[Act]:
    if guest.family is Family.DEBIAN:
        # open-iscsi makes a name at its start where the file says so.
        yield EditFiles((_INITIATOR,), lambda _: b"GenerateName=yes\n")
    else:
        yield Remove((_INITIATOR,))


def _lvm_devices(files: GuestFiles, guest: Guest) -> Iterator[Act]:
    if not files.glob(_LVM_DEVICES[0]):
        return
    yield Remove(_LVM_DEVICES)
    imports = ("/usr/lib/systemd/system/lvm-devices-import.path",
               "/lib/systemd/system/lvm-devices-import.path")  # fmt: skip
    if any(files.resolve(path) for path in imports):
        yield Write(_LVM_IMPORT, b"")


def _swap(files: GuestFiles, guest: Guest) -> Iterator[Act]:
    lines = content_of(files, "/etc/fstab").split(b"\n")
    fields = [line.partition(b"#")[0].split() for line in lines]
    if any(len(words) > 2 and words[2] == b"swap" for words in fields):
        yield Say(
            "what was in memory may still lie in the swap space, which is not emptied: for a "
            "template that others get, make it anew in the guest first (swapoff, mkswap)"
        )


def _lvm_uuids(files: GuestFiles, guest: Guest) -> Iterator[Act]:
    groups = files.volume_groups()
    if not groups.names:
        return
    if groups.keep:
        yield Say(f"the UUIDs of {', '.join(groups.names)} stay: {groups.keep}")
        return
    yield from _lvm_devices(files, guest)  # it names the disks by their old ids
    yield RenewGroups(groups.names)


ROWS = (
    Operation(
        name="machine-id",
        title="machine id",
        why="two machines with one id get one DHCP lease and mix up their journals; an empty file "
        "has systemd make one at the next start, under KVM from the domain's UUID",
        source="machine-id(5), systemd-machine-id-setup(1)",
        decide=_machine_id,
        looks_at=("/etc/machine-id", _DBUS_ID),
    ),
    Operation(
        name="ssh-hostkeys",
        title="SSH host keys",
        why="clones could impersonate each other; where the system would not make new keys at "
        "its next start, a small unit is added that does",
        source="sshd(8), ssh-keygen(1) -A; Debian makes keys only when its package is installed",
        decide=_ssh_host_keys,
        looks_at=(*_HOST_KEYS, f"/etc/systemd/system/{_UNIT}"),
    ),
    Operation(
        name="random-seed",
        title="saved random seeds",
        why="two machines must not start their random numbers from one seed",
        source="systemd-random-seed.service(8), bootctl(1), seedrng",
        acts=removing(
            "/var/lib/systemd/random-seed",
            "/var/lib/random-seed",
            "/var/lib/urandom/random-seed",
            "/var/lib/seedrng/seed.*",
            "/boot/loader/random-seed",
            "/boot/efi/loader/random-seed",
            "/efi/loader/random-seed",
        ),
    ),
    Operation(
        name="swap",
        title="old memory in swap space",
        why="it is only told: swap space is as large as memory, and a guest that sleeps in it is "
        "refused",
        source="mkswap(8), fstab(5)",
        decide=_swap,
        looks_at=("/etc/fstab",),
    ),
    Operation(
        name="credential-secret",
        title="systemd's credential secret",
        why="what one machine encrypted no other should read",
        source="systemd-creds(1)",
        decide=_credential_secret,
        looks_at=(_CREDENTIALS_KEY,),
    ),
    # Before "hostname": it reads the name that the next row removes.
    Operation(
        name="hosts",
        title="own name in /etc/hosts",
        why="a clone would answer to its source's name",
        source="hosts(5); Debian's installer writes 127.0.1.1 for the machine itself",
        decide=_hosts,
        looks_at=("/etc/hosts",),
    ),
    Operation(
        name="hostname",
        title="host name",
        why="each clone gets its own; a static name would win over the one it is given",
        source="hostname(5), systemd-firstboot(1): it sets a name only where the file is missing",
        acts=(
            Remove(("/etc/hostname", "/etc/HOSTNAME")),
            EditFiles(("/etc/sysconfig/network",), without_shell_keys("HOSTNAME")),
            EditFiles(("/etc/machine-info",), without_shell_keys("PRETTY_HOSTNAME")),
        ),
    ),
    Operation(
        name="lvm-devices",
        title="LVM's list of devices",
        why="a clone's disks have other ids and its volume groups would not be found; a list made "
        "anew at the next start is asked for where the system can",
        source="lvmdevices(8), RHEL 9 on cloning virtual machines",
        decide=_lvm_devices,
        looks_at=(*_LVM_DEVICES, _LVM_IMPORT),
    ),
    Operation(
        name="lvm-uuids",
        title="UUIDs of LVM's volume groups and their disks",
        why="two disks of one UUID cannot be looked at on one machine; they stay where the boot "
        "loader or something else of the guest's own finds its volumes by them",
        source="vgchange(8), pvchange(8): --uuid",
        decide=_lvm_uuids,
        looks_at=_LVM_DEVICES,
    ),
    Operation(
        name="iscsi",
        title="iSCSI initiator name",
        why="two initiators of one name log each other out and may write to one disk",
        source="iscsi-iname(8), open-iscsi's GenerateName",
        decide=_iscsi,
        looks_at=(_INITIATOR,),
    ),
    Operation(
        name="nvme",
        title="NVMe host name and id",
        why="a target tells hosts apart by them",
        source="nvme-gen-hostnqn(1)",
        acts=removing("/etc/nvme/hostnqn", "/etc/nvme/hostid"),
    ),
    Operation(
        name="hardware-uuid",
        title="hardware ids of smolt and yum",
        why="surveys and repositories count machines by them",
        source="yum's and smolt's files; dnf's countme cookie",
        acts=removing(
            "/etc/sysconfig/hw-uuid",
            "/etc/smolt/uuid",
            "/etc/smolt/hw-uuid",
            "/var/lib/yum/uuid",
            "/var/lib/dnf/repos/*/countme",
            "/var/lib/zypp/AnonymousUniqueId",
        ),
    ),
    Operation(
        name="kerberos-hostkeytab",
        title="host keytab",
        why="a keytab is one host's password in its realm",
        source="kerberos' krb5.conf(5): default_keytab_name",
        acts=removing("/etc/krb5.keytab"),
    ),
    Operation(
        name="domain-join",
        title="membership of a domain (FreeIPA, SSSD, Samba)",
        why="two hosts with one machine account lock each other out",
        source="ipa-client-install(1), sssd(8), Samba's secrets.tdb",
        acts=removing(
            "/etc/ipa/ca.crt",
            "/etc/ipa/default.conf",
            "/etc/ipa/nssdb/*",
            "/var/lib/ipa-client/sysrestore/*",
            "/var/lib/ipa-client/pki/*",
            "/var/lib/sss/db/*",
            "/var/lib/sss/mc/*",
            "/var/lib/sss/secrets/*",
            "/var/lib/samba/private/secrets.tdb",
            "/var/lib/samba/*.tdb",
            "/var/lib/samba/*/*.tdb",
        ),
    ),
    Operation(
        name="ssh-user-state",
        title="users' private SSH keys and known hosts",
        why="a key that every clone has is nobody's; authorized keys stay, so that nobody is "
        "locked out",
        source="ssh(1), section FILES",
        acts=removing(
            "/root/.ssh/id_*",
            "/root/.ssh/known_hosts*",
            "/home/*/.ssh/id_*",
            "/home/*/.ssh/known_hosts*",
        ),
    ),
)
