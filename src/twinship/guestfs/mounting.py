"""How a guest's filesystems are found and mounted in an appliance, by its own disks alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinship.guestfs.files import GuestFilesError, VolumeGroups
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """All that may hold a filesystem, with what it holds (``ext4``, ``crypto_LUKS``).

    ``seen``: the devices that LVM may look at, the guest's own. ``volumes`` are LVM's, of which
    ``locked`` hold a LUKS device that is open.
    """

    found: Mapping[str, str]
    seen: tuple[str, ...]
    volumes: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """What was mounted; ``groups`` are LVM's on ``seen``, the guest's own devices."""

    groups: VolumeGroups
    seen: tuple[str, ...]


def mount_guest(
    call: Call, disks: Mapping[str, Sequence[str]], keys: Mapping[str, str], *, writable: bool
) -> Mounted:
    """Mounts the guest's root and all that its fstab has on these disks.

    ``disks``: its devices in order, each with its partitions.

    A line of fstab that names something else (a network share, a disk that is not there) is passed
    over. Raises :class:`GuestRefused`.
    """
    devices = list(disks)
    every = _sources(call, disks, keys)
    sources = every.found
    if suspended := [place for place, kind in sources.items() if kind == "swsuspend"]:
        raise hibernated(f"in the guest's {suspended[0]}")
    access = "rw" if writable else "ro"
    mounted = {"/": _mount_root(call, sources, access)}
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
        mounted[point] = source
    return Mounted(groups=_groups(call, every, mounted), seen=every.seen)


def renew_groups(call: Call, seen: Sequence[str]) -> None:
    """Gives the volume groups on these devices and their disks new UUIDs; nothing is mounted.

    Source: vgchange(8) and pvchange(8), --uuid: the group may not be active.
    """
    call("lvm_set_filter", list(seen))
    call("vg_activate_all", False)
    call("pvchange_uuid_all")
    call("vgchange_uuid_all")


def _sources(call: Call, disks: Mapping[str, Sequence[str]], keys: Mapping[str, str]) -> Sources:
    devices = list(disks)
    places = [place for device, parts in disks.items() for place in parts or (device,)]
    found = {place: call("vfs_type", place) for place in places}
    if not {"LVM2_member", "crypto_LUKS"} & set(found.values()):
        return Sources(found=found, seen=tuple(devices))
    volumes: dict[str, None] = {}
    above: list[str] = []
    opened: list[str] = []
    # Twice: LUKS may lie below LVM or above it.
    for _ in range(2):
        call("lvm_set_filter", [*devices, *opened])
        for volume in call("lvs"):
            volumes[volume] = None
            found.setdefault(volume, call("vfs_type", volume))
        locked = [place for place, kind in found.items() if kind == "crypto_LUKS"]
        for place in locked:
            name = _unlock(call, place, keys, f"twinship{len(opened)}")
            opened.append(name)
            above += [place] if place in volumes else []
            found.pop(place)
            found[name] = call("vfs_type", name)
        if not locked:
            break
    else:
        call("lvm_set_filter", [*devices, *opened])
    return Sources(
        found=found, seen=(*devices, *opened), volumes=tuple(volumes), locked=tuple(above)
    )


def _groups(call: Call, sources: Sources, mounted: Mapping[str, str]) -> VolumeGroups:
    """The guest's groups, and why they should stay as they are."""
    if not sources.volumes:
        return VolumeGroups()
    keep = ""
    if mounted.get("/boot", mounted["/"]) in sources.volumes:
        keep = "the boot loader finds /boot by them"
    elif sources.locked:
        keep = f"{', '.join(sources.locked)} holds an encrypted device that is in use"
    elif call("exists", "/etc/fstab") and "/dm-uuid-LVM-" in call("read_file", "/etc/fstab"):
        keep = "its fstab names volumes by them"
    return VolumeGroups(names=tuple(call("vgs")), keep=keep)


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


def _mount_root(call: Call, sources: Mapping[str, str], access: str) -> str:
    """Mounts the filesystem that has a system in it, and returns where it lies.

    Any other is only read for that.
    """
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
        return place
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
