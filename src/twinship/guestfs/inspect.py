"""What is inside: the distribution, and the reasons to leave a guest alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from twinship.guestfs.files import GuestFiles, content_of, shown
from twinship.guestfs.layout import Content, Part, swap_content
from twinship.model.errors import CheckBlocked
from twinship.model.plan import Finding, Severity


class GuestKind(StrEnum):
    """What kind of system a guest is."""

    LINUX = "linux"
    WINDOWS = "windows"
    UNKNOWN = "unknown"


class Family(StrEnum):
    """Distributions that keep their things in the same places."""

    DEBIAN = "debian"
    REDHAT = "redhat"
    SUSE = "suse"
    ARCH = "arch"
    ALPINE = "alpine"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A guest's system. ``id`` and ``version`` are os-release's (``debian``, ``12``).

    ``selinux_contexts``: the file that says which label each file has, where SELinux is on.
    """

    kind: GuestKind
    id: str = ""
    version: str = ""
    name: str = ""
    family: Family = Family.OTHER
    systemd: bool = False
    cloud_init: bool = False
    selinux_contexts: str = ""


REFUSALS = {
    "GUEST_IS_WINDOWS": "A Windows guest is sealed by its own sysprep, from inside.",
    "GUEST_UNKNOWN": "No system was found that is known: nothing says what may be removed.",
    "GUEST_HIBERNATED": "What a guest would wake up to must not be changed under it.",
    "NO_FILESYSTEM": "The disk is empty, or holds what only the guest understands.",
    "FILESYSTEM_FULL": "An edit that ends halfway for want of room would leave a broken file.",
    "FILESYSTEM_DIRTY": "Before its journal is written back (--recover) nobody knows what is in a "
    "filesystem that was not shut down.",
    "KEY_MISSING": "The guest's disk is encrypted: its passphrase is needed, in a file (--key).",
    "KEY_WRONG": "The key does not open the guest's encrypted disk.",
    "GUEST_ENGINE_MISSING": "This guest can only be read by libguestfs, which is not installed "
    "on the machine that runs Twinship.",
}
"""Every reason to leave a guest alone that its disks show, with why."""


class GuestRefused(CheckBlocked):
    """A guest that should not be touched; the code says why."""

    default_code = "GUEST_REFUSED"


_FAMILIES = {
    Family.DEBIAN: ("debian", "ubuntu", "devuan", "kali", "raspbian", "linuxmint"),
    Family.REDHAT: ("rhel", "fedora", "centos", "rocky", "almalinux", "ol", "amzn", "scientific"),
    Family.SUSE: ("suse", "opensuse", "sles", "sled", "opensuse-leap", "opensuse-tumbleweed"),
    Family.ARCH: ("arch", "manjaro"),
    Family.ALPINE: ("alpine",),
}
_SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
_CLOUD_INIT = ("/usr/bin/cloud-init", "/usr/local/bin/cloud-init")
_OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
_OLD_RELEASE = (
    ("/etc/redhat-release", Family.REDHAT, "rhel"),
    ("/etc/debian_version", Family.DEBIAN, "debian"),
    ("/etc/SuSE-release", Family.SUSE, "suse"),
    ("/etc/alpine-release", Family.ALPINE, "alpine"),
)
_ASSIGNMENT = re.compile(r"([A-Z_]+)=(.*)")
_POLICY = re.compile(r"[a-z0-9_-]{1,32}")
_NO_FILES = frozenset((Content.SWAP, Content.OTHER))
_MAYBE_LINUX = frozenset(
    (Content.EXT, Content.XFS, Content.BTRFS, Content.LVM, Content.LUKS, Content.RAID)
)
_NOT_ON_DISK = frozenset(("tmpfs", "proc", "sysfs", "devpts", "nfs", "nfs4", "cifs", "9p",
                          "virtiofs", "iso9660", "udf", "overlay", "swap", "none"))  # fmt: skip
_ELSEWHERE = ("/boot", "/efi", "/mnt", "/media", "/proc", "/sys", "/dev", "/run")
_SWAP_HEAD_BYTES = 65536
_LEAST_FREE_BYTES = 512 * 1024
_LEAST_FREE_FILES = 16


def identify(files: GuestFiles) -> Guest:
    """What system lies in these files."""
    for directory in files.glob("/[Ww][Ii][Nn][Dd][Oo][Ww][Ss]/[Ss][Yy][Ss][Tt][Ee][Mm]32"):
        if files.resolve(directory):
            return Guest(kind=GuestKind.WINDOWS, name="Windows")
    for path in _OS_RELEASE:
        text = _text(files, path)
        if text:
            return _linux(files, _assignments(text))
    for path, family, name in _OLD_RELEASE:
        if text := _text(files, path):
            first = text.splitlines()[0].strip() if text.strip() else name
            version = re.search(r"\d+(\.\d+)*", first)
            return Guest(
                kind=GuestKind.LINUX,
                id=name,
                version=version[0] if version else "",
                name=first[:80],
                family=family,
                systemd=_any(files, _SYSTEMD),
                cloud_init=_any(files, _CLOUD_INIT),
                selinux_contexts=_contexts(files),
            )
    return Guest(kind=GuestKind.UNKNOWN)


def problems(files: GuestFiles, guest: Guest) -> tuple[Finding, ...]:
    """All reasons not to seal the guest that its files show; each blocks."""
    found = []
    if guest.kind is GuestKind.WINDOWS:
        found.append(_windows())
    elif guest.kind is GuestKind.UNKNOWN:
        found.append(
            _finding(
                "GUEST_UNKNOWN",
                "no system that Twinship knows was found on the guest's disks",
                "only a Linux guest with an os-release file can be sealed",
            )
        )
    if path := _suspended_swap(files):
        found.append(_hibernated(f"in {path}"))
    space = files.space()
    few_files = space.free_files is not None and space.free_files < _LEAST_FREE_FILES
    if space.free_bytes < _LEAST_FREE_BYTES or few_files:
        found.append(
            _finding(
                "FILESYSTEM_FULL",
                f"the guest's filesystem has {space.free_bytes} bytes left"
                + (f" and {space.free_files} files" if few_files else "")
                + ": too little to edit anything",
                "free some space in the guest, or grow its disk",
            )
        )
    return tuple(found)


def disk_refusal(parts: Sequence[Part], where: str) -> GuestRefused | None:
    """Why disks with these parts are left alone; None when nothing speaks against them."""
    contents = {part.content for part in parts}
    if Content.SUSPENDED in contents:
        return hibernated(f"in the swap space of {where}")
    if Content.NTFS in contents and not contents & _MAYBE_LINUX:
        return _as_error(_windows())
    if contents <= _NO_FILES:
        return _as_error(
            _finding(
                "NO_FILESYSTEM",
                f"there is no filesystem on {where}",
                "the disk is empty, or holds something that only the guest understands",
            )
        )
    return None


def is_root(files: GuestFiles) -> bool:
    """Whether this filesystem is the root of a system."""
    return any(files.resolve(path) for path in (*_OS_RELEASE, "/etc/fstab")) or any(
        files.lstat(path) for path, _, _ in _OLD_RELEASE
    )


def own_mount_points(files: GuestFiles) -> tuple[str, ...]:
    """Directories that the guest mounts from disks, other than its root and what boots it."""
    found = []
    for fields in _fstab(files):
        point, kind = fields[1], fields[2]
        if kind in _NOT_ON_DISK or not point.startswith("/") or point == "/":
            continue
        if not any(point == place or point.startswith(place + "/") for place in _ELSEWHERE):
            found.append(point)
    return tuple(sorted(set(found)))


def _suspended_swap(files: GuestFiles) -> str:
    for fields in _fstab(files):
        if fields[2] != "swap" or not fields[0].startswith("/") or fields[0].startswith("/dev/"):
            continue
        head = content_of(files, fields[0], _SWAP_HEAD_BYTES)
        if swap_content(head) is Content.SUSPENDED:
            return shown(fields[0])
    return ""


def _fstab(files: GuestFiles) -> list[list[str]]:
    lines = (line.split("#")[0].split() for line in _text(files, "/etc/fstab").splitlines())
    return [fields for fields in lines if len(fields) >= 3]


def _linux(files: GuestFiles, values: dict[str, str]) -> Guest:
    name = values.get("ID", "linux")
    return Guest(
        kind=GuestKind.LINUX,
        id=name,
        version=values.get("VERSION_ID", ""),
        name=values.get("PRETTY_NAME", name)[:80],
        family=_family((name, *values.get("ID_LIKE", "").split())),
        systemd=_any(files, _SYSTEMD),
        cloud_init=_any(files, _CLOUD_INIT),
        selinux_contexts=_contexts(files),
    )


def _family(names: Sequence[str]) -> Family:
    for name in names:
        for family, members in _FAMILIES.items():
            if name in members:
                return family
    return Family.OTHER


def _assignments(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        if match := _ASSIGNMENT.fullmatch(line.strip()):
            value = match[2].strip().strip("\"'")
            found[match[1]] = "".join(letter for letter in value if letter.isprintable())
    return found


def _contexts(files: GuestFiles) -> str:
    """Source: selinux_config(5)."""
    values = _assignments(_text(files, "/etc/selinux/config"))
    policy = values.get("SELINUXTYPE", "")
    if values.get("SELINUX") not in ("enforcing", "permissive") or not _POLICY.fullmatch(policy):
        return ""
    return files.resolve(f"/etc/selinux/{policy}/contexts/files/file_contexts") or ""


def _text(files: GuestFiles, path: str) -> str:
    return content_of(files, path, 65536).decode("utf-8", "replace")


def _any(files: GuestFiles, paths: Sequence[str]) -> bool:
    return any(files.resolve(path) is not None for path in paths)


def _windows() -> Finding:
    return _finding(
        "GUEST_IS_WINDOWS",
        "the guest is Windows, which cannot be sealed from outside",
        "run sysprep /generalize /oobe /shutdown in it",
    )


def _hibernated(where: str) -> Finding:
    return _finding(
        "GUEST_HIBERNATED",
        f"the guest is hibernated: a suspended system lies {where}",
        "start the VM and shut it down; what it would wake up to must not be changed under it",
    )


def _finding(code: str, message: str, hint: str) -> Finding:
    return Finding(code=code, severity=Severity.BLOCK, message=message, hint=hint)


def hibernated(where: str) -> GuestRefused:
    """The refusal of a guest whose suspended system lies there."""
    return _as_error(_hibernated(where))


def dirty(cause: str) -> GuestRefused:
    """The refusal of a filesystem whose journal was not written back."""
    return GuestRefused(
        "the guest's filesystem was not shut down cleanly",
        code="FILESYSTEM_DIRTY",
        cause=cause,
        hint="start the VM and shut it down, or have its journal written back (recover)",
    )


def _as_error(finding: Finding) -> GuestRefused:
    return GuestRefused(finding.message, code=finding.code, hint=finding.hint)
