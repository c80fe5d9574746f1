"""Sealing guests on their disks: in scratch overlays first, then into the disks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from twinship.guestfs import patch
from twinship.guestfs.files import GuestFiles
from twinship.guestfs.image import Image
from twinship.guestfs.inspect import Guest, GuestRefused, identify, problems
from twinship.guestfs.ladder import visit
from twinship.guestfs.scratch import overlaid
from twinship.guestfs.sealing import Manifest, apply_seal
from twinship.model.request import SealChoice
from twinship.seal.choice import keys_of, operations_of, runs_inside
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
class SealGuest:
    """A guest to be sealed: the host its disks are on."""

    host: str
    disks: tuple[SealDisk, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was done to which guest, and by which engine; how much was written to its disks."""

    guest: Guest
    manifest: Manifest
    engine: str
    bytes_written: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What the caller wants to be told. ``stop`` raises to give up.

    ``say``: why the appliance has to be started. ``change``: from now on the disks are written;
    what they had is kept.
    """

    say: Callable[[str], None]
    stop: Callable[[], None]
    change: Callable[[], None]


def seal_guests(
    hosts: Hosts, guests: Sequence[SealGuest], choice: SealChoice, hooks: Hooks
) -> list[Done]:
    """Seals the guests on these disks, which no VM has open: all, or none.

    Nothing is written to a disk before every guest is sealed in overlays, and what that changes is
    kept. Raises :class:`GuestRefused`, and what the engines raise.
    """
    with ExitStack() as stack:
        owns: list[list[Image]] = []
        kept: list[list[Image]] = []
        overlays: list[list[Image]] = []
        for guest in guests:
            chains = [Chain(files=disk.files, writable=True) for disk in guest.disks]
            saved = [
                Chain(files=((disk.saved, "qcow2"),), writable=True)
                for disk in guest.disks
                if disk.saved
            ]
            images = stack.enter_context(shown(hosts, guest.host, [*chains, *saved]))
            owns.append(images[: len(chains)])
            kept.append(images[len(chains) :])
            lengths = [disk.length_bytes for disk in guest.disks]
            overlays.append(stack.enter_context(overlaid(owns[-1], lengths)))
        done = _sealed(overlays, choice, hooks.say)
        for mine, own, keep in zip(overlays, owns, kept, strict=True):
            for overlay, disk, saved_in in zip(mine, own, keep, strict=False):
                patch.save(overlay, disk, saved_in, hooks.stop)
        hooks.stop()
        hooks.change()
        for number, (mine, own) in enumerate(zip(overlays, owns, strict=True)):
            written = sum(
                patch.apply(overlay, disk, hooks.stop)
                for overlay, disk in zip(mine, own, strict=True)
            )
            done[number] = replace(done[number], bytes_written=written)
    return done


def restore_disk(hosts: Hosts, host: str, disk: SealDisk) -> int:
    """Writes back into a disk what it had before it was sealed; the bytes."""
    chains = (
        Chain(files=disk.files, writable=True),
        Chain(files=((disk.saved, "qcow2"),)),
    )
    with shown(hosts, host, chains) as (own, saved):
        return patch.apply(saved, own, _to_its_end)


def _sealed(
    guests: Sequence[Sequence[Image]], choice: SealChoice, say: Callable[[str], None]
) -> list[Done]:
    operations = operations_of(choice)

    def act(files: GuestFiles) -> tuple[Guest, Manifest]:
        guest = identify(files)
        for finding in problems(files, guest):
            raise GuestRefused(finding.message, code=finding.code, hint=finding.hint)
        return guest, apply_seal(files, guest, operations)

    visits = visit(
        guests,
        act,
        writable=True,
        keys=keys_of(choice),
        recover=choice.recover,
        runs=runs_inside(choice),
        say=say,
    )
    done = []
    for found in visits:
        if found.refused is not None:
            raise found.refused
        assert found.value is not None
        guest, manifest = found.value
        done.append(Done(guest=guest, manifest=manifest, engine=found.engine))
    return done


def _to_its_end() -> None:
    """What is undone is undone to its end."""
