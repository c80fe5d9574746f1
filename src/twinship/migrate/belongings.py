"""What a VM has besides its disks, and which of it goes along; pure.

A live move sends a TPM's state itself; an offline one has to carry it, the firmware variables, and
libvirt's records of snapshots and checkpoints. Media and secrets are needed by both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twinship.migrate.disks import Route, Way
from twinship.migrate.facts import MigrateFacts, SecretFacts, SecretThere
from twinship.model.vm import Disk, Layer
from twinship.planning.names import tpm_directory

_WANTED = (SecretThere.MISSING, SecretThere.EMPTY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Belongings:
    """``files`` are carried whole, each with what it is; ``tpm`` is a directory."""

    files: tuple[tuple[str, Layer], ...] = ()
    nvram: str = ""
    tpm: str = ""
    snapshots: int = 0
    checkpoints: int = 0
    secrets: tuple[SecretFacts, ...] = ()


def belongings(facts: MigrateFacts, routes: Sequence[Route], *, live: bool) -> Belongings:
    """All that goes along besides the disks themselves."""
    files: list[tuple[str, Layer]] = []
    for route in routes:
        files += [("backing file", layer) for layer in route.before]
        if carried_medium(facts, route.disk):
            files += [("medium", layer) for layer in route.disk.chain]
    secrets = tuple(
        secret
        for secret in facts.storage.secrets
        if secret.there in _WANTED and secret.here is SecretThere.READABLE
    )
    if live:
        return Belongings(files=_each_once(files), secrets=secrets)
    own = facts.inactive or facts.summary
    kept = facts.storage.records
    files += [("file of a snapshot", layer) for layer in kept.files if snapshot_file_goes(layer)]
    tpm = own.tpm == "emulator" and not facts.storage.tpm_source
    return Belongings(
        files=_each_once(files),
        nvram=own.nvram,
        tpm=tpm_directory(facts.vm.vm.uuid, own.tpm_version) if tpm else "",
        snapshots=len(kept.snapshots),
        checkpoints=len(kept.checkpoints),
        secrets=secrets,
    )


def carried_medium(facts: MigrateFacts, disk: Disk) -> bool:
    """Whether a medium that the target lacks can be carried: from pool to pool."""
    if disk.source_type != "file" or not disk.readonly or facts.media.get(disk.path, True):
        return False
    pools = (facts.pool_for(layer.path) for layer in disk.chain)
    return (
        bool(disk.chain)
        and not any(layer.problem for layer in disk.chain)
        and all(pool is not None and pool.active for pool in pools)
        and all(facts.places.still_names(layer) for layer in disk.chain)
        and not any(
            (there := facts.files.get(layer.path)) is not None and there.exists
            for layer in disk.chain
        )
    )


def snapshot_file_goes(layer: Layer) -> bool:
    """Whether a file that a snapshot speaks of is there to be carried."""
    return not layer.problem


def increments(routes: Sequence[Route]) -> bool:
    """Whether any disk moves onto what the target has."""
    return any(route.way is Way.INCREMENT for route in routes)


def _each_once(files: list[tuple[str, Layer]]) -> tuple[tuple[str, Layer], ...]:
    found: dict[str, tuple[str, Layer]] = {}
    for what, layer in files:
        found.setdefault(layer.path, (what, layer))
    return tuple(found.values())
