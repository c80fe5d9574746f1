"""What an operation that moves a VM is made of: plain JSON, enough to run or undo it anywhere."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from twinship.migrate.checks.case import MigrateCase
from twinship.migrate.disks import Route, Way
from twinship.migrate.facts import MigrateFacts
from twinship.model.host import migration_uri
from twinship.model.request import NewIds, PostCopyWay
from twinship.model.vm import Layer, VmState
from twinship.planning.binding import digest

SCHEMA = 3


def upgraded(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec of an older version.

    Of version 1 nothing but disks and firmware variables went along; up to version 2 every file had
    one path on both hosts.
    """
    new = {"along": [], "bases": [], "secrets": [], "tpm": "", "records": [0, 0]}
    layers = {"through": False, "backing": "", "backing_format": ""}
    disks = [
        {
            "kind": "file",
            **_with_there(disk),
            "layers": [{**layers, **_with_there(layer)} for layer in disk["layers"]],
        }
        for disk in spec["disks"]
    ]
    spec = {**new, **spec}
    files = {name: [_with_there(file) for file in spec[name]] for name in ("along", "bases")}
    return {**spec, **files, "disks": disks, "schema": SCHEMA}


def _with_there(file: Mapping[str, Any]) -> dict[str, Any]:
    return {"there": file["path"], **file}


def spec_of(case: MigrateCase, ids: NewIds) -> dict[str, Any]:
    """The spec of a plan."""
    facts, request, along = case.facts, case.request, case.along
    return {
        "schema": SCHEMA,
        "mode": case.mode.value,
        "source": facts.source.name,
        "target": facts.target.name,
        "vm": {"name": facts.vm.vm.name, "uuid": facts.vm.vm.uuid},
        "persistent": facts.vm.vm.persistent,
        "was_paused": facts.vm.vm.state is VmState.PAUSED,
        "uri": migration_uri(facts.address),
        "temporary": request.temporary,
        "stay_defined": request.stay_defined,
        "max_pause_s": request.max_pause_s,
        "post_copy": (request.post_copy if case.may_post_copy else PostCopyWay.NEVER).value,
        "rate": request.rate,
        "verify": request.verify,
        "disks": _disk_specs(case),
        "along": [
            {**_layer_spec(case, layer), "what": what, "through": _through(case, layer)}
            for what, layer in along.files
        ],
        "bases": _bases(case),
        "nvram": along.nvram,
        "tpm": along.tpm,
        "records": [along.snapshots, along.checkpoints],
        "secrets": [
            {"what": secret.what, "uuid": secret.uuid, "kind": secret.kind, "usage": secret.usage}
            for secret in along.secrets
        ],
        "memory_bytes": facts.summary.memory_bytes,
        "carrier": {"name": f"twinship-carrier-{ids.carrier[:8]}", "uuid": ids.carrier},
        "machine": {
            "domain_type": "qemu" if _both_emulate(facts) else facts.summary.domain_type,
            "arch": facts.summary.arch,
            "machine": facts.summary.machine,
            "emulator": facts.summary.emulator,
        },
        "shared_files": any(
            way is Way.SHARED and disk.source_type == "file" for disk, way in case.ways
        ),
        "binding": _binding(case),
        "request": {
            "vm": f"{facts.source.name}/{facts.vm.vm.uuid}",
            "target": request.target,
            "fix": request.fix,
            "maps": [list(pair) for pair in request.maps],
            "mode": request.mode.value,
            "storage": request.storage.value,
            "stay_defined": request.stay_defined,
            "temporary": request.temporary,
            "max_pause_s": request.max_pause_s,
            "post_copy": request.post_copy.value,
            "rate": request.rate,
            "verify": request.verify,
        },
    }


def files_of(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every file that the move makes on the target, those of the disks first."""
    return [*(layer for disk in spec["disks"] for layer in disk["layers"]), *spec["along"]]


def _disk_specs(case: MigrateCase) -> list[dict[str, Any]]:
    """One entry a disk that is not left; a file that two disks stand on is the first one's."""
    specs: list[dict[str, Any]] = []
    listed: set[str] = set()
    for route in case.routes:
        if route.way is Way.STAY:
            continue
        own = tuple(layer for layer in route.layers if layer.path not in listed)
        listed.update(layer.path for layer in own)
        specs.append(_disk_spec(case, route, own))
    return specs


def _disk_spec(case: MigrateCase, route: Route, layers: tuple[Layer, ...]) -> dict[str, Any]:
    disk = route.disk
    header = disk.top.header if disk.top else None
    flattened = case.live and route.way is Way.COPY
    return {
        "target": disk.target,
        "way": route.way.value,
        "kind": disk.source_type,
        "path": disk.path,
        "there": case.facts.there(disk.path),
        "format": disk.format or "raw",
        "bytes": sum(part.allocated_bytes for part in (disk.chain if flattened else layers)),
        "virtual": header.virtual_bytes if header is not None else 0,
        "layers": [
            {
                **_layer_spec(case, layer),
                "through": not case.live and _through(case, layer),
                **_backing(case, route, layer),
            }
            for layer in layers
        ],
    }


def _backing(case: MigrateCase, route: Route, layer: Layer) -> dict[str, str]:
    """What the overlay stands on, on the target, that a running VM's disk moves to."""
    if not case.live or route.way is not Way.INCREMENT or layer.header is None:
        return {"backing": "", "backing_format": ""}
    backing = case.facts.there(route.disk.chain[1].path)
    return {"backing": backing, "backing_format": layer.header.backing_format}


def _through(case: MigrateCase, layer: Layer) -> bool:
    """Whether a running VM of the source has the file open, so that no carrier can."""
    return case.live or bool(case.facts.storage.readers.get(layer.path))


def _layer_spec(case: MigrateCase, layer: Layer) -> dict[str, Any]:
    """A file to be made; ``path`` is where it lies at the source, ``there`` on the target."""
    pool = case.facts.pool_for(layer.path)
    header = layer.header
    return {
        "path": layer.path,
        "there": case.facts.there(layer.path),
        "pool": pool.name if pool is not None else "",
        "file": posixpath.basename(layer.path),
        "length": layer.length_bytes,
        "bytes": layer.allocated_bytes,
        "format": header.format if header is not None else "raw",
        "virtual": header.virtual_bytes if header is not None else layer.length_bytes,
        "cluster": header.cluster_bytes if header is not None else 0,
        "compat": header.compat if header is not None else "",
    }


def _bases(case: MigrateCase) -> list[dict[str, Any]]:
    """The files that disks will stand on and that the target has already."""
    standing = {
        layer.path: layer
        for route in case.moving
        for layer in route.standing
        if not case.facts.files[layer.path].same
    }
    return [
        {"path": path, "there": case.facts.there(path), "length": layer.length_bytes}
        for path, layer in standing.items()
    ]


def _binding(case: MigrateCase) -> dict[str, str]:
    facts = case.facts
    label, target = facts.vm.vm.label, facts.target.name
    bound = {
        f"the state of {label}": facts.vm.vm.state.value.replace("_", " "),
        f"the definition of {label}": digest(facts.vm.inactive_xml),
        f"the VM on {target}": facts.uuid_on_target.value if facts.uuid_on_target else "absent",
        f"the name {facts.vm.vm.name} on {target}": "taken" if facts.name_on_target else "free",
        f"the job on {label}": facts.vm.job or "none",
        f"the snapshots of {label}": _listed(facts.storage.records.snapshots),
        f"the checkpoints of {label}": _listed(facts.storage.records.checkpoints),
    }
    for route in case.routes:
        disk = route.disk
        there = facts.there(disk.path)
        where = disk.path if there == disk.path else f"{disk.path}, there {there}"
        bound[f"disk {disk.target}"] = f"{where} ({route.way.value})"
        if not route.moves:
            continue
        for layer in disk.chain:
            known, there = facts.files.get(layer.path), facts.there(layer.path)
            bound[f"the file {there} on {target}"] = (
                "there" if known is not None and known.exists else "absent"
            )
            if not case.live:
                bound[f"the file {layer.path}"] = f"{layer.length_bytes} bytes"
            pool = facts.pool_for(layer.path)
            bound[f"the pool over {posixpath.dirname(there)} on {target}"] = (
                "active" if pool is not None and pool.active else "not active"
            )
    for what, layer in case.along.files:
        bound[f"the {what} {layer.path}"] = f"{layer.length_bytes} bytes"
    for secret in facts.storage.secrets:
        bound[f"the secret {secret.spoken} on {target}"] = secret.there.value
    return bound


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"


def _both_emulate(facts: MigrateFacts) -> bool:
    return "qemu" in facts.source.domain_types and "qemu" in facts.target.domain_types
