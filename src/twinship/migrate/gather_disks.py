"""Reads what the disks and belongings of a VM need on the target, or have there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from twinship.domxml import read as domread
from twinship.domxml.document import parse
from twinship.domxml.records import snapshot_files
from twinship.domxml.secrets import SecretRef, secret_refs
from twinship.hypervisor import chains, devices, records, secret_values, vms, volumes
from twinship.hypervisor.connection import Connection
from twinship.inventory.lineage import fingerprint, marks
from twinship.migrate.bases import BaseThere, judge
from twinship.migrate.facts import (
    RecordFacts,
    SecretFacts,
    SecretThere,
    StorageFacts,
    TargetFile,
)
from twinship.migrate.places import Places
from twinship.model.vm import Layer, VmFacts


def resolved(vm: VmFacts) -> VmFacts:
    """The VM with volumes that its definition names by pool shown as the files they are."""
    pools = {
        disk.target: disk.path.partition("/")[0]
        for disk in domread.disks(vm.live_xml or vm.inactive_xml)
        if disk.source_type == "volume"
    }
    disks = tuple(
        dataclasses.replace(
            disk, source_type="block" if disk.on_device else "file", named=pools[disk.target]
        )
        if disk.target in pools and disk.chain
        else disk
        for disk in vm.disks
    )
    return dataclasses.replace(vm, disks=disks)


def gather_storage(
    source: Connection, target: Connection, vm: VmFacts, kept: RecordFacts, places: Places
) -> StorageFacts:
    """All of it, read from both hosts; no value of a secret is kept."""
    return StorageFacts(
        bases=_bases(source, target, vm, places),
        readers=_readers(source, vm),
        devices=_devices(target, vm),
        secrets=tuple(
            _secret(source, target, ref) for ref in secret_refs(vm.live_xml or vm.inactive_xml)
        ),
        records=kept,
        tpm_source=_tpm_source(vm.xml),
    )


def files_there(
    source: Connection, target: Connection, layers: Iterable[Layer], places: Places
) -> dict[str, TargetFile]:
    """What the target has at its places for these files, by their paths at the source."""
    found: dict[str, TargetFile] = {}
    for layer in layers:
        if layer.path in found or not layer.pool:
            continue
        there = volumes.find(target, places.there(layer.path))
        if there is None:
            found[layer.path] = TargetFile(exists=False)
            continue
        same = volumes.are_one(source, layer.path, target, places.there(layer.path))
        found[layer.path] = TargetFile(exists=True, same=same)
    return found


def _bases(
    source: Connection, target: Connection, vm: VmFacts, places: Places
) -> dict[str, BaseThere]:
    below = {layer.path for disk in vm.disks for layer in disk.chain[1:] if layer.pool}
    there = {
        path: base for path in sorted(below) if (base := fingerprint(target, places.there(path)))
    }
    if not there:
        return {}
    ours, theirs = marks(source), marks(target)
    found = {}
    for path, base in there.items():
        here = fingerprint(source, path)
        if here is not None:
            found[path] = judge(here, base, ours.get(path, ()), theirs.get(base.path, ()))
    return found


def _readers(source: Connection, vm: VmFacts) -> dict[str, tuple[str, ...]]:
    mine = {layer.path for disk in vm.disks for layer in disk.chain}
    found: dict[str, list[str]] = {}
    for name, uuid, text in vms.running(source):
        if uuid == vm.vm.uuid:
            continue
        paths = {
            element.get("file", "")
            for disk in parse(text).iterfind("devices/disk")
            for element in disk.iter("source")
        }
        for path in sorted(paths & mine):
            found.setdefault(path, []).append(name)
    return {path: tuple(sorted(names)) for path, names in found.items()}


def _devices(target: Connection, vm: VmFacts) -> dict[str, bool]:
    wanted = {disk.path for disk in vm.disks if disk.source_type == "block"}
    if not wanted:
        return {}
    shown = devices.block_paths(target)
    return {path: path in shown or volumes.find(target, path) is not None for path in wanted}


def _secret(source: Connection, target: Connection, ref: SecretRef) -> SecretFacts:
    here, there = secret_values.find(source, ref), secret_values.find(target, ref)
    return SecretFacts(
        what=ref.what,
        spoken=ref.spoken,
        uuid=ref.uuid or (here.uuid if here is not None else ""),
        kind=ref.kind,
        usage=ref.usage,
        here=_told(here),
        there=_told(there),
        differs=here is not None
        and there is not None
        and None not in (here.value, there.value)
        and here.value != there.value,
    )


def _told(secret: secret_values.Secret | None) -> SecretThere:
    if secret is None:
        return SecretThere.MISSING
    if secret.private:
        return SecretThere.PRIVATE
    return SecretThere.EMPTY if secret.value is None else SecretThere.READABLE


def gather_records(source: Connection, vm: VmFacts) -> RecordFacts:
    """libvirt's records of the VM, and the files that they speak of."""
    if not (vm.snapshots or vm.checkpoints):
        return RecordFacts()
    found = records.read(source, vm.vm.uuid)
    mine = {layer.path for disk in vm.disks for layer in disk.chain}
    files: dict[str, Layer] = {}
    for snapshot in found.snapshots:
        for file in snapshot_files(snapshot.xml):
            for layer in chains.chain(source, file.path, file.format):
                if layer.path not in mine:
                    files.setdefault(layer.path, layer)
    return RecordFacts(
        snapshots=tuple(record.name for record in found.snapshots),
        checkpoints=tuple(record.name for record in found.checkpoints),
        files=tuple(files.values()),
    )


def _tpm_source(text: str) -> str:
    source = parse(text).find("devices/tpm/backend/source")
    return source.get("path", "elsewhere") if source is not None else ""
