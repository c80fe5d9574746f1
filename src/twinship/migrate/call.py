"""What libvirt is asked for when a VM moves: the same words each time it is asked."""

from __future__ import annotations

from typing import Any

from twinship.domxml.lineage import with_bases
from twinship.hypervisor import jobs, vms
from twinship.hypervisor.connection import Connection
from twinship.inventory.lineage import carried
from twinship.migrate.meter import DiskMeter
from twinship.migrate.places import places_of
from twinship.migrate.plan import definition, rewrites_of, travelling_xml
from twinship.operations.job import Job


def mirrored(spec: dict[str, Any]) -> frozenset[str]:
    """The targets of the disks whose bytes go along."""
    return frozenset(disk["target"] for disk in spec["disks"] if disk["layers"])


def order_of(source: Connection, target: Connection, spec: dict[str, Any]) -> jobs.MoveOrder:
    """The whole order, made of the spec and the VM's definition at the source."""
    uuid, copied = spec["vm"]["uuid"], mirrored(spec)
    persist = spec["persistent"] and not spec["temporary"]
    travelling = travelling_xml(vms.migratable_xml(source, uuid), copied, rewrites_of(spec))
    return jobs.MoveOrder(
        uri=spec["uri"],
        xml=_marked(target, travelling, spec),
        persistent_xml=_arriving(source, target, spec) if persist else "",
        name=spec["vm"]["name"],
        copy_disks=tuple(sorted(copied)),
        increment=any(disk["way"] == "increment" for disk in spec["disks"]),
        live=spec["mode"] == "live",
        persist=persist,
        shared_proved=spec["shared_files"],
        rate=spec["rate"],
        post_copy=spec.get("post_copy", "never") != "never",
    )


def _arriving(source: Connection, target: Connection, spec: dict[str, Any]) -> str:
    """The definition that stays on the target."""
    text = definition(vms.inactive_xml(source, spec["vm"]["uuid"]), rewrites_of(spec))
    return _marked(target, text, spec)


def _marked(target: Connection, text: str, spec: dict[str, Any]) -> str:
    """The definition with its marks true on the target: what its disks are based on there."""
    ways = {disk["way"] for disk in spec["disks"]}
    if "increment" in ways:
        return carried(target, text, places_of(rewrites_of(spec)).there)
    return with_bases(text, ()) if "copy" in ways else text


def meter_of(job: Job, target: Connection, spec: dict[str, Any]) -> DiskMeter:
    """What makes bytes done and bytes in all of libvirt's numbers."""
    copied = [disk for disk in spec["disks"] if disk["layers"]]
    expected = sum(disk["bytes"] for disk in copied)
    paths = [layer["there"] for disk in copied for layer in disk["layers"]]
    return DiskMeter(target, paths, expected, spec["memory_bytes"], job.clock)
