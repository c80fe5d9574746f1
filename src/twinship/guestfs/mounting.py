"""How a guest's filesystems are found and mounted in an appliance, by its own disks alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twinship.guestfs.files import GuestFilesError
from twinship.guestfs.inspect import GuestRefused, hibernated

Call = Callable[..., Any]

_ROOT_MARKS = (
    "/etc/os-release",
    "/usr/lib/os-release",
    "/etc/fstab",
    "/etc/redhat-release",
    "/etc/debian_version",
    "/Windows/System32",
)
_FILESYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "ntfs")
_SUBVOLUMES = ("", "@", "root", "@rootfs")
"""Of btrfs: none named (its own default), Ubuntu's, Fedora's, Debian's."""
_DISK_NAME = re.compile(r"/dev/(?:[hsv]|xv)d([a-z])(\d*)")
_NOT_MOUNTED = ("/mnt", "/media", "/run", "/proc", "/sys", "/dev")


def mount_guest(
    call: Call, disks: Mapping[str, Sequence[str]], keys: Mapping[str, str], *, writable: bool
) -> None:
    """Mounts the guest's root and all that its fstab has on these disks.

    ``disks``: its devices in order, each with its partitions.

    A line of fstab that names something else (a network share, a disk that is not there) is passed
    over. Raises :class:`GuestRefused`.
    """
    devices = list(disks)
    sources = _sources(call, disks, keys)
    if suspended := [place for place, kind in sources.items() if kind == "swsuspend"]:
        raise hibernated(f"in the guest's {suspended[0]}")
    access = "rw" if writable else "ro"
    _mount_root(call, sources, access)
    mounted = {"/"}
    for spec, point, kind, wanted in _fstab(call):
        source = _named(call, spec, sources, devices)
        if source is None or point in mounted or kind not in (*_FILESYSTEMS, "auto"):
            continue
        if any(point == place or point.startswith(place + "/") for place in _NOT_MOUNTED):
            continue
        if not call("is_dir", point):
            continue
        subvolume = [word for word in wanted.split(",") if word.startswith("subvol")]
        chosen = subvolume if sources[source] == "btrfs" else []
        call("mount_options", ",".join([access, *chosen]), source, point)
        mounted.add(point)


def _sources(
    call: Call, disks: Mapping[str, Sequence[str]], keys: Mapping[str, str]
) -> dict[str, str]:
    """All that may hold a filesystem, with what it holds (``ext4``, ``crypto_LUKS``)."""
    devices = list(disks)
    places = [place for device, parts in disks.items() for place in parts or (device,)]
    found = {place: call("vfs_type", place) for place in places}
    if not {"LVM2_member", "crypto_LUKS"} & set(found.values()):
        return found
    opened: list[str] = []
    # Twice: LUKS may lie below LVM or above it.
    for _ in range(2):
        call("lvm_set_filter", [*devices, *opened])
        for volume in call("lvs"):
            found.setdefault(volume, call("vfs_type", volume))
        locked = [place for place, kind in found.items() if kind == "crypto_LUKS"]
        for place in locked:
            name = _unlock(call, place, keys, f"twinship{len(opened)}")
            opened.append(name)
            found.pop(place)
            found[name] = call("vfs_type", name)
        if not locked:
            break
    else:
        call("lvm_set_filter", [*devices, *opened])
    return found


def _unlock(call: Call, device: str, keys: Mapping[str, str], name: str) -> str:
    uuid = call("vfs_uuid", device)
    key = keys.get(uuid, keys.get(""))
    if key is None:
        raise GuestRefused(
            f"the guest's disk is encrypted (LUKS {uuid})",
            code="KEY_MISSING",
            hint="give its key in a file",
        )
    try:
        call("open_luks", device, key, name)
    except GuestFilesError as error:
        raise GuestRefused(
            f"the key does not open the guest's disk (LUKS {uuid})",
            code="KEY_WRONG",
            cause=error.cause,
        ) from None
    return f"/dev/mapper/{name}"


def _mount_root(call: Call, sources: Mapping[str, str], access: str) -> None:
    """Mounts the filesystem that has a system in it; any other is only read for that."""
    candidates = [
        (place, f"subvol={subvolume}" if subvolume else "")
        for place, kind in sources.items()
        if kind in _FILESYSTEMS
        for subvolume in (_SUBVOLUMES if kind == "btrfs" else ("",))
    ]
    alone = len(candidates) == 1
    for place, options in candidates:
        call("umount_all")
        looking = access if alone else "ro"
        try:
            call("mount_options", ",".join(filter(None, (looking, options))), place, "/")
        except GuestFilesError:
            continue
        if not any(call("exists", mark) for mark in _ROOT_MARKS):
            continue
        if looking != access:
            call("umount_all")
            call("mount_options", ",".join(filter(None, (access, options))), place, "/")
        return
    raise GuestRefused(
        "no system was found on the guest's disks",
        code="GUEST_UNKNOWN" if sources else "NO_FILESYSTEM",
        hint="only a Linux guest with an os-release file can be sealed",
    )


def _fstab(call: Call) -> list[tuple[str, str, str, str]]:
    if not call("exists", "/etc/fstab"):
        return []
    lines = (line.split("#")[0].split() for line in call("read_file", "/etc/fstab").splitlines())
    found = [(line[0], line[1], line[2], line[3]) for line in lines if len(line) >= 4]
    return sorted((line for line in found if line[1].startswith("/")), key=lambda line: line[1])


def _named(call: Call, spec: str, sources: Mapping[str, str], devices: Sequence[str]) -> str | None:
    """Which of the sources fstab means."""
    kind, equals, value = spec.partition("=")
    if equals:
        function = {"UUID": "vfs_uuid", "LABEL": "vfs_label"}.get(kind)
        if function is None:
            return None
        value = value.strip("\"'")
        return next((place for place in sources if call(function, place) == value), None)
    if spec in sources:
        return spec
    if spec.startswith("/dev/mapper/"):
        plain = spec.removeprefix("/dev/mapper/")
        return next((place for place in sources if _mapper_name(place) == plain), None)
    if match := _DISK_NAME.fullmatch(spec):
        number = ord(match[1]) - ord("a")
        place = devices[number] + match[2] if number < len(devices) else ""
        return place if place in sources else None
    return None


def _mapper_name(volume: str) -> str:
    """``/dev/vg/lv-a`` as the device mapper writes it: ``vg-lv--a``."""
    parts = volume.removeprefix("/dev/").split("/")
    return "-".join(part.replace("-", "--") for part in parts)
