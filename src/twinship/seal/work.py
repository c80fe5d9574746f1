"""Sealing the guest on some disks: in scratch overlays first, then into the disks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twinship.guestfs import patch
from twinship.guestfs.image import Image
from twinship.guestfs.inspect import Guest, GuestRefused, identify, problems
from twinship.guestfs.ladder import guest_files
from twinship.guestfs.scratch import overlaid
from twinship.guestfs.sealing import Manifest, apply_seal
from twinship.model.request import SealChoice
from twinship.seal.choice import keys_of, operations_of, runs_inside
from twinship.seal.look import APPLIANCE, USER_SPACE
from twinship.seal.shown import Chain, shown
from twinship.transfer.steps import Hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class SealDisk:
    """A disk to be sealed: its files, its length for the guest, and where what it had is kept.

    ``saved`` is an empty qcow2 volume of that length; none where nothing is to be kept.
    """

    files: tuple[tuple[str, str], ...]
    length_bytes: int
    saved: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was done to which guest, and by which engine; how much was written to its disks."""

    guest: Guest
    manifest: Manifest
    engine: str
    bytes_written: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What the caller wants to be told. ``stop`` raises to give up.

    ``say``: why the appliance has to be started. ``change``: from now on the disks are written;
    what they had is kept.
    """

    say: Callable[[str], None]
    stop: Callable[[], None]
    change: Callable[[], None]


def seal_disks(
    hosts: Hosts, host: str, disks: Sequence[SealDisk], choice: SealChoice, hooks: Hooks
) -> Done:
    """Seals the guest on these disks, which no VM has open.

    Nothing is written to them before the whole seal is done in overlays, and what it changes is
    kept. Raises :class:`GuestRefused`, and what the engines raise.
    """
    chains = [Chain(files=disk.files, writable=True) for disk in disks]
    kept = [Chain(files=((disk.saved, "qcow2"),), writable=True) for disk in disks if disk.saved]
    with (
        shown(hosts, host, [*chains, *kept]) as images,
        overlaid(images[: len(disks)], [disk.length_bytes for disk in disks]) as overlays,
    ):
        own, saved = images[: len(disks)], images[len(disks) :]
        done = _sealed(overlays, choice, hooks.say)
        hooks.stop()
        for overlay, disk, keep in zip(overlays, own, saved, strict=False):
            patch.save(overlay, disk, keep, hooks.stop)
        hooks.change()
        written = sum(
            patch.apply(overlay, disk, hooks.stop)
            for overlay, disk in zip(overlays, own, strict=True)
        )
    guest, manifest, engine = done
    return Done(guest=guest, manifest=manifest, engine=engine, bytes_written=written)


def restore_disk(hosts: Hosts, host: str, disk: SealDisk) -> int:
    """Writes back into a disk what it had before it was sealed; the bytes."""
    chains = (
        Chain(files=disk.files, writable=True),
        Chain(files=((disk.saved, "qcow2"),)),
    )
    with shown(hosts, host, chains) as (own, saved):
        return patch.apply(saved, own, _to_its_end)


def _sealed(
    images: Sequence[Image], choice: SealChoice, say: Callable[[str], None]
) -> tuple[Guest, Manifest, str]:
    slow: list[str] = []

    def told(why: str) -> None:
        slow.append(why)
        say(why)

    with guest_files(
        images,
        writable=True,
        keys=keys_of(choice),
        recover=choice.recover,
        runs=runs_inside(choice),
        say=told,
    ) as files:
        guest = identify(files)
        for finding in problems(files, guest):
            raise GuestRefused(finding.message, code=finding.code, hint=finding.hint)
        manifest = apply_seal(files, guest, operations_of(choice))
    return guest, manifest, APPLIANCE if slow else USER_SPACE


def _to_its_end() -> None:
    """What is undone is undone to its end."""
