"""Rows that are off unless they are asked for: they take away what a template is often made for."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from twinship.guestfs.files import FileKind, GuestFiles, content_of, literal, shown
from twinship.guestfs.inspect import Family, Guest
from twinship.guestfs.sealing.edits import Edit, lines_of
from twinship.guestfs.sealing.operation import (
    Act,
    EditFiles,
    Link,
    Operation,
    Remove,
    Say,
    Write,
    removing,
)

_UID_LIMITS = re.compile(r"^\s*(UID_MIN|UID_MAX)\s+(\d+)", re.MULTILINE)
_USUAL_LIMITS = {"UID_MIN": 1000, "UID_MAX": 60000}
_NOBODY = 65534
_PLAIN_HOME = re.compile(r"/home/[^/]+")
_DATABASES = ("/etc/passwd", "/etc/shadow", "/etc/subuid", "/etc/subgid")
_GROUPS = ("/etc/group", "/etc/gshadow")
_FIRST_BOOT = {
    "firstboot-graphical.service": "graphical.target.wants/firstboot-graphical.service",
    "initial-setup-graphical.service": "graphical.target.wants/initial-setup-graphical.service",
    "initial-setup-text.service": "multi-user.target.wants/initial-setup-text.service",
    "initial-setup.service": "multi-user.target.wants/initial-setup.service",
}


def without_users(names: Collection[bytes]) -> Edit:
    """Drops the users' own lines from passwd, shadow and their like (the name comes first)."""
    return lambda data: b"".join(
        line for line in lines_of(data) if line.partition(b":")[0] not in names
    )


def without_members(names: Collection[bytes]) -> Edit:
    """Drops the users from group and gshadow: their own groups, and themselves as members."""

    def member(line: bytes) -> bytes:
        body = line.rstrip(b"\r\n")
        fields = body.split(b":")
        if len(fields) < 4:
            return line
        before = fields[3].split(b",")
        kept = [name for name in before if name not in names]
        if kept == before:
            return line
        return b":".join([*fields[:3], b",".join(kept), *fields[4:]]) + line[len(body) :]

    return lambda data: b"".join(
        member(line) for line in lines_of(data) if line.partition(b":")[0] not in names
    )


def _user_accounts(files: GuestFiles, guest: Guest) -> Iterator[Act]:
    limits = dict(_USUAL_LIMITS)
    text = content_of(files, "/etc/login.defs").decode("utf-8", "replace")
    limits |= {name: int(value) for name, value in _UID_LIMITS.findall(text)}
    names = set()
    for line in lines_of(content_of(files, "/etc/passwd")):
        fields = line.rstrip(b"\r\n").split(b":")
        if len(fields) < 7 or not fields[2].isdigit():
            continue
        uid = int(fields[2])
        if uid == _NOBODY or not limits["UID_MIN"] <= uid <= limits["UID_MAX"]:
            continue
        names.add(fields[0])
        yield from _home(files, fields[5].decode("utf-8", "surrogateescape"))
    yield EditFiles(_DATABASES, without_users(names))
    yield EditFiles(_GROUPS, without_members(names))


def _home(files: GuestFiles, home: str) -> Iterator[Act]:
    """A user's home, if it is one: a hostile or careless passwd may say ``/``."""
    found = files.lstat(home) if _PLAIN_HOME.fullmatch(home) else None
    if found is not None and found.kind is FileKind.DIRECTORY:
        yield Remove((literal(home),))
    elif home not in ("", "/nonexistent"):
        yield Say(f"the home {shown(home)} stays: only directories right below /home are removed")


def _first_boot(files: GuestFiles, guest: Guest) -> Iterator[Act]:
    for unit, wants in _FIRST_BOOT.items():
        if files.resolve(f"/usr/lib/systemd/system/{unit}"):
            yield Link(f"/etc/systemd/system/{wants}", f"/usr/lib/systemd/system/{unit}")


ROWS = (
    Operation(
        name="user-accounts",
        title="user accounts and their homes",
        why="a template for others should have no people in it",
        source="login.defs(5): UID_MIN to UID_MAX",
        decide=_user_accounts,
        looks_at=("/home/*", *_DATABASES, *_GROUPS),
        default=False,
    ),
    Operation(
        name="ssh-authorized-keys",
        title="authorized SSH keys",
        why="who may log in is to be said anew; without another way in, nobody can",
        source="sshd(8)",
        acts=removing("/root/.ssh/authorized_keys*", "/home/*/.ssh/authorized_keys*"),
        default=False,
    ),
    Operation(
        name="ssh-userdir",
        title="users' whole SSH directories",
        why="keys, known hosts, settings and authorized keys alike",
        source="ssh(1)",
        acts=removing("/root/.ssh", "/home/*/.ssh"),
        default=False,
    ),
    Operation(
        name="firewall-rules",
        title="firewall rules",
        why="a template may have rules that only its own place needs",
        source="iptables-save(8), firewalld(1), ufw(8)",
        acts=removing(
            "/etc/sysconfig/iptables",
            "/etc/sysconfig/ip6tables",
            "/etc/iptables/rules.v4",
            "/etc/iptables/rules.v6",
            "/etc/firewalld/zones/*",
            "/etc/firewalld/services/*",
            "/etc/ufw/user*.rules",
        ),
        default=False,
    ),
    Operation(
        name="ca-certificates",
        title="certificates and keys added to the system",
        why="trust and keys of one place; run update-ca-trust or update-ca-certificates afterwards",
        source="update-ca-trust(8), update-ca-certificates(8), make-ssl-cert(8)",
        acts=removing(
            "/etc/pki/ca-trust/source/anchors/*",
            "/etc/pki/tls/private/*.key",
            "/etc/pki/tls/certs/localhost.crt",
            "/usr/local/share/ca-certificates/*",
            "/etc/ssl/private/ssl-cert-snakeoil.key",
            "/etc/ssl/certs/ssl-cert-snakeoil.pem",
        ),
        default=False,
    ),
    Operation(
        name="kerberos-data",
        title="data of a Kerberos server",
        why="a realm's database",
        source="kdb5_util(8)",
        acts=removing("/var/kerberos/krb5kdc/*", "/var/lib/krb5kdc/*"),
        default=False,
    ),
    Operation(
        name="wireguard-keys",
        title="WireGuard configurations and keys",
        why="two peers with one key cannot both be reached; the tunnel has to be made anew",
        source="wg-quick(8)",
        acts=removing("/etc/wireguard/*"),
        default=False,
    ),
    Operation(
        name="ask-at-first-boot",
        title="the first-boot questions of Red Hat's systems",
        why="has the system ask for password, network and time zone at its next start",
        source="RHEL 6 and 7 on cloning virtual machines: /.unconfigured; firstboot and "
        "initial-setup enabled",
        acts=(Write("/.unconfigured", b""),),
        decide=_first_boot,
        looks_at=tuple(f"/etc/systemd/system/{wants}" for wants in _FIRST_BOOT.values()),
        default=False,
        families=frozenset((Family.REDHAT,)),
    ),
)
