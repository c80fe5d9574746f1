"""What a clone's guest is told before it first boots, without touching its disk. Pure.

Two ways, and what a guest needs for each:

- **systemd credentials** in SMBIOS OEM strings (:func:`oem_strings`): read by systemd 252 and later
  (RHEL 9, Debian 12, Ubuntu 24.04), whatever the distribution put on top. Source: systemd's NEWS
  for 252, systemd.system-credentials(7), tmpfiles.d(5).
- **cloud-init NoCloud** (:func:`nocloud`): three documents on an image labelled CIDATA (see
  :mod:`twinship.clone.seed`); read by guests with cloud-init, once for each instance id. Source:
  cloud-init's documentation of the NoCloud data source and of network configuration version 2.

What somebody typed never becomes part of a document by pasting: cloud-init's documents are JSON,
which is YAML, and what systemd reads is checked or in Base64.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from twinship.model.errors import UsageError

MOST_FILE_BYTES = 1024 * 1024
MOST_HOSTNAME = 64
"""Linux's own limit (HOST_NAME_MAX)."""

_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_OWNER = re.compile(r"[a-z_][a-z0-9_-]{0,31}|[0-9]{1,9}")
_KEY_TYPE = re.compile(
    r"ssh-(?:ed25519|rsa|dss)|ecdsa-sha2-nistp(?:256|384|521)"
    r"|sk-(?:ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com"
)
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFile:
    """A file the guest shall have. Raises :class:`UsageError` for one that cannot be."""

    path: str
    content: bytes
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"

    def __post_init__(self) -> None:
        parts = self.path.split("/")
        if parts[0] or len(parts) < 2 or any(part in ("", ".", "..") for part in parts[1:]):
            raise _refused(f"{self.path[:80]!r} is no plain absolute path of a file")
        if not _printable(self.path) or len(self.path.encode()) > 1024:
            raise _refused(f"{self.path[:80]!r} has control characters or is too long")
        if len(self.content) > MOST_FILE_BYTES:
            raise _refused(f"{self.path} has more than {MOST_FILE_BYTES // 1024} KiB")
        if not 0 <= self.mode <= 0o7777:
            raise _refused(f"{self.mode:o} is no file mode")
        for name in (self.owner, self.group):
            if not _OWNER.fullmatch(name):
                raise _refused(f"{name[:40]!r} is no name of a user or group")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestNic:
    """Addresses for the guest's NIC with this MAC: ``192.0.2.7/24``; ``gateways``, ``dns`` bare.

    Raises :class:`UsageError` for what are no addresses.
    """

    mac: str
    addresses: tuple[str, ...]
    gateways: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _MAC.fullmatch(self.mac):
            raise _refused(f"{self.mac[:40]!r} is no MAC address")
        try:
            for address in self.addresses:
                if not address.partition("/")[2].isdecimal() or "%" in address:
                    raise ValueError(f"{address!r} lacks its prefix length (192.0.2.7/24)")
                ipaddress.ip_interface(address)
            for address in (*self.gateways, *self.dns):
                if "%" in address:
                    raise ValueError(f"{address!r} names a network card")
                ipaddress.ip_address(address)
        except ValueError as error:
            raise _refused(f"the NIC {self.mac} cannot have these addresses", str(error)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstBoot:
    """What the guest is told. Raises :class:`UsageError` (``FIRST_BOOT``) for what it cannot be.

    ``ssh_keys`` are lines of public keys (:func:`public_keys`), for root and for a cloud image's
    own user.
    """

    hostname: str = ""
    ssh_keys: tuple[str, ...] = ()
    files: tuple[GuestFile, ...] = ()
    nics: tuple[GuestNic, ...] = ()

    def __post_init__(self) -> None:
        if self.hostname and (why := hostname_problem(self.hostname)):
            raise _refused(f"{self.hostname[:80]!r} is no hostname: {why}")
        for number, key in enumerate(self.ssh_keys, 1):
            if why := _key_problem(key):  # not repeated: it may be anything but public
                raise _refused(f"SSH key {number} is no public key: {why}")
        paths = [file.path for file in self.files]
        if len(set(paths)) != len(paths):
            raise _refused("a file is given twice")


def public_keys(text: str) -> tuple[str, ...]:
    """The keys of a public key file, or of an ``authorized_keys`` without options.

    Raises :class:`UsageError` (``FIRST_BOOT``) for a private key, and for a file without any key.
    """
    if "PRIVATE KEY" in text:
        raise _refused("this is a private SSH key", hint="give the file that ends in .pub")
    lines = (line.strip() for line in text.splitlines())
    keys = tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not keys:
        raise _refused("there is no SSH key in it")
    return FirstBoot(ssh_keys=keys).ssh_keys


def hostname_problem(name: str) -> str:
    """Why this cannot be a guest's name; empty when it can (RFC 1123 §2.1, hostname(5))."""
    if len(name) > MOST_HOSTNAME:
        return f"it is longer than {MOST_HOSTNAME} characters"
    if not all(_LABEL.fullmatch(label) for label in name.split(".")):
        return "it may have letters, digits and dashes, and dots between"
    return ""


def hostname_for(vm_name: str) -> str:
    """The hostname nearest to a VM's name: ``Web 2_a`` gives ``web-2-a``; empty for none."""
    plain = unicodedata.normalize("NFKD", vm_name).encode("ascii", "ignore").decode().lower()
    labels = (re.sub(r"[^a-z0-9]+", "-", label)[:63].strip("-") for label in plain.split("."))
    return ".".join(label for label in labels if label)[:MOST_HOSTNAME].rstrip("-.")


def oem_strings(first: FirstBoot) -> tuple[str, ...]:
    """SMBIOS OEM strings with systemd's credentials.

    - ``hostname``: ``firstboot.hostname`` is younger than any long-lived distribution (systemd's
      pull request 41212, 2026) and ``system.hostname`` (256) yields to an ``/etc/hostname``. So
      ``sysctl.extra`` names the kernel's host and ``tmpfiles.extra`` writes ``/etc/hostname`` as
      well (both 252).
    - ``ssh_keys``: ``ssh.authorized_keys.root`` (252). Only for a guest whose root has no
      ``authorized_keys`` yet.
    - ``files``: ``tmpfiles.extra`` (252), at *every* boot while the strings are there.
    - ``nics``: ``network.network.*`` (256), and only where systemd-networkd rules the network.
    """
    values: dict[str, bytes] = {}
    files = list(first.files)
    if first.hostname:
        name = first.hostname.encode()
        values["firstboot.hostname"] = values["system.hostname"] = name
        values["sysctl.extra"] = b"kernel.hostname = " + name + b"\n"
        if not any(file.path == "/etc/hostname" for file in files):
            files.append(GuestFile(path="/etc/hostname", content=name + b"\n"))
    if first.ssh_keys:
        values["ssh.authorized_keys.root"] = _lines(first.ssh_keys)
    if files:
        values["tmpfiles.extra"] = _lines(tuple(_tmpfiles_line(file) for file in files))
    for number, nic in enumerate(first.nics):
        values[f"network.network.10-twinship-{number}"] = _lines(_network_lines(nic))
    return tuple(_credential(name, value) for name, value in values.items())


def nocloud(first: FirstBoot, instance_id: str) -> dict[str, bytes]:
    """The documents of a NoCloud image by file name.

    ``instance_id`` has to be new for each clone (its UUID is): cloud-init acts once for each.
    """
    meta: dict[str, Any] = {"instance-id": instance_id}
    user: dict[str, Any] = {}
    if first.hostname:
        meta["local-hostname"] = first.hostname
        user |= {"hostname": first.hostname, "preserve_hostname": False}
    if first.ssh_keys:
        user |= {"ssh_authorized_keys": list(first.ssh_keys), "disable_root": False}
    if first.files:
        user["write_files"] = [_write_file(file) for file in first.files]
    documents = {"meta-data": _json(meta), "user-data": b"#cloud-config\n" + _json(user)}
    if first.nics:
        ethernets = {f"nic{number}": _ethernet(nic) for number, nic in enumerate(first.nics)}
        documents["network-config"] = _json({"version": 2, "ethernets": ethernets})
    return documents


def _credential(name: str, value: bytes) -> str:
    text = value.decode("ascii", "replace")
    if text.isprintable() and text.isascii():
        return f"io.systemd.credential:{name}={text}"
    return f"io.systemd.credential.binary:{name}={base64.b64encode(value).decode()}"


def _tmpfiles_line(file: GuestFile) -> str:
    """tmpfiles.d(5): ``f+`` writes over what is there, ``~`` takes Base64; ``%`` starts a name."""
    quoted = file.path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    content = base64.b64encode(file.content).decode() or "-"
    return f'f+~ "{quoted}" {file.mode:04o} {file.owner} {file.group} - {content}'


def _network_lines(nic: GuestNic) -> tuple[str, ...]:
    return (
        "[Match]",
        f"MACAddress={nic.mac}",
        "[Network]",
        *(f"Address={address}" for address in nic.addresses),
        *(f"Gateway={address}" for address in nic.gateways),
        *(f"DNS={address}" for address in nic.dns),
    )


def _ethernet(nic: GuestNic) -> dict[str, Any]:
    found: dict[str, Any] = {
        "match": {"macaddress": nic.mac},
        "addresses": list(nic.addresses),
        "dhcp4": False,
    }
    if nic.gateways:
        found["routes"] = [{"to": _everywhere(to), "via": to} for to in nic.gateways]
    if nic.dns:
        found["nameservers"] = {"addresses": list(nic.dns)}
    return found


def _everywhere(gateway: str) -> str:
    return "0.0.0.0/0" if ipaddress.ip_address(gateway).version == 4 else "::/0"


def _write_file(file: GuestFile) -> dict[str, str]:
    return {
        "path": file.path,
        "encoding": "b64",
        "content": base64.b64encode(file.content).decode(),
        "permissions": f"{file.mode:04o}",
        "owner": f"{file.owner}:{file.group}",
    }


def _key_problem(key: str) -> str:
    """Why a line is no public key: its type has to stand inside its data too (RFC 4253 §6.6)."""
    if not _printable(key):
        return "it has control characters"
    kind, _, rest = key.partition(" ")
    if not _KEY_TYPE.fullmatch(kind):
        return "it does not begin with a type such as ssh-ed25519"
    try:
        data = base64.b64decode(rest.split(" ", 1)[0], validate=True)
    except binascii.Error:
        return "its second word is not Base64"
    inside = len(kind).to_bytes(4) + kind.encode()
    return "" if data.startswith(inside) and len(data) > len(inside) else "its data is cut or wrong"


def _printable(text: str) -> bool:
    # The last two are what neither YAML nor XML has a place for.
    kinds = ("Cc", "Cs", "Zl", "Zp")
    return not any(unicodedata.category(char) in kinds or char in "\ufffe\uffff" for char in text)


def _lines(lines: tuple[str, ...]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _json(document: dict[str, Any]) -> bytes:
    # Not in ASCII: YAML does not join the two halves that JSON escapes a rare character into.
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
    return (text + "\n").encode()


def _refused(message: str, cause: str = "", hint: str = "") -> UsageError:
    return UsageError(message, code="FIRST_BOOT", cause=cause, hint=hint)
