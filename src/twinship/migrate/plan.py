"""The plan of a move: pure, the same facts and ids give the same plan."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from twinship.domxml.refit import Rewrite, refitted, rewrite_from
from twinship.domxml.rewrite import (
    redacted,
    with_mark,
    with_sparse_targets,
    without_chains,
    without_mark,
)
from twinship.migrate.checks import TABLE
from twinship.migrate.checks.case import MigrateCase, Way
from twinship.migrate.cures import cured, difference
from twinship.migrate.facts import MigrateFacts
from twinship.migrate.outlook import forecast
from twinship.model.host import migration_uri
from twinship.model.plan import Plan, PlannedXml, Step
from twinship.model.request import MigrateMode, MigrateRequest, NewIds, StorageWay
from twinship.model.vm import Disk, Layer, VmState
from twinship.planning.binding import digest
from twinship.planning.slots import move_slots

SCHEMA = 1
_REMOTE = ("network", "nvme", "vhostuser")


def plan_migrate(facts: MigrateFacts, request: MigrateRequest, ids: NewIds) -> Plan:
    """What moving ``request.vm`` to ``request.target`` would do."""
    mode = _mode(facts, request)
    ways = tuple((disk, _way(facts, request, disk)) for disk in facts.vm.disks)
    case = MigrateCase(facts=facts, request=request, mode=mode, ways=ways)
    spec = _spec(case, ids)
    checks, rewrites = cured(case, TABLE.run(case))
    told = forecast(case)
    spec["forecast"] = asdict(told) if told is not None else None
    spec["rewrites"] = [rewrite.as_dict() for rewrite in rewrites]
    vm = facts.vm.vm
    target = facts.target.name
    before = redacted(definition(facts.vm.xml))
    after = redacted(definition(facts.vm.xml, rewrites))
    layers = [layer for disk in spec["disks"] for layer in disk["layers"]]
    return Plan(
        kind="migrate",
        title=f"move {vm.label} to {target} ({mode.value})",
        checks=checks,
        steps=tuple(_steps(case, spec)),
        estimate_s=None,
        forecast=told,
        diff=difference(before, after, vm.label, f"{target}/{vm.name}"),
        domain_xml=(PlannedXml(name=vm.name, host=target, xml=after),),
        resources=(
            f"vm/{vm.uuid}",
            f"name/{target}/{vm.name}",
            *(f"file/{target}/{path}" for path in dict.fromkeys(layer["path"] for layer in layers)),
        ),
        slots=move_slots(vm.host, target, (layer["pool"] for layer in layers)),
        spec=spec,
        binding=spec["binding"],
    )


def asked_for(spec: Mapping[str, Any]) -> MigrateRequest:
    """The request a spec was made of."""
    asked = dict(spec["request"])
    asked.update(
        mode=MigrateMode(asked["mode"]),
        storage=StorageWay(asked["storage"]),
        maps=tuple((old, new) for old, new in asked.get("maps", ())),
    )
    return MigrateRequest(**asked)


def definition(source_xml: str, rewrites: Iterable[Rewrite] = ()) -> str:
    """The definition on the target: the source's, without our note that the VM is away."""
    return refitted(without_mark(source_xml, "away"), rewrites)


def rewrites_of(spec: Mapping[str, Any]) -> tuple[Rewrite, ...]:
    """What a spec changes in the definition."""
    return tuple(rewrite_from(one) for one in spec.get("rewrites", ()))


def travelling_xml(
    migratable_xml: str, copied: frozenset[str], rewrites: Iterable[Rewrite] = ()
) -> str:
    """What the target's QEMU is started as for a live move: copies arrive thin and flat."""
    text = definition(migratable_xml, rewrites)
    return with_sparse_targets(without_chains(text, copied), copied)


def marked_away(source_xml: str, target: str, at: str) -> str:
    """The definition that stays at the source, with the note where the VM is."""
    return with_mark(source_xml, "away", {"host": target, "since": at})


def _mode(facts: MigrateFacts, request: MigrateRequest) -> MigrateMode:
    if request.mode is not MigrateMode.AUTO:
        return request.mode
    state = facts.vm.vm.state
    if state is VmState.PAUSED:
        return MigrateMode.NON_LIVE
    return MigrateMode.LIVE if state.active else MigrateMode.OFFLINE


def _way(facts: MigrateFacts, request: MigrateRequest, disk: Disk) -> Way:
    if disk.empty or disk.source_type in _REMOTE:
        return Way.SHARED if disk.source_type == "network" else Way.STAY
    if disk.source_type != "file" or disk.readonly or disk.device not in ("disk", "lun"):
        return Way.STAY
    if request.storage is StorageWay.COPY:
        return Way.COPY
    top = facts.files.get(disk.path)
    return Way.SHARED if top is not None and top.same else Way.COPY


def _spec(case: MigrateCase, ids: NewIds) -> dict[str, Any]:
    facts, request = case.facts, case.request
    summary = facts.inactive or facts.summary
    nvram = summary.nvram if not case.live else ""
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
        "rate": request.rate,
        "verify": request.verify,
        "disks": _disk_specs(case),
        "nvram": nvram,
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
            "rate": request.rate,
            "verify": request.verify,
        },
    }


def _disk_specs(case: MigrateCase) -> list[dict[str, Any]]:
    """One entry a disk that is not left; a file that two disks stand on is the first one's."""
    specs: list[dict[str, Any]] = []
    listed: set[str] = set()
    for disk, way in case.ways:
        if way is Way.STAY:
            continue
        layers: tuple[Layer, ...] = ()
        if way is Way.COPY:
            layers = disk.chain[:1] if case.live else disk.chain
        own = tuple(layer for layer in layers if layer.path not in listed)
        listed.update(layer.path for layer in own)
        specs.append(_disk_spec(case, disk, way, own))
    return specs


def _disk_spec(
    case: MigrateCase, disk: Disk, way: Way, layers: tuple[Layer, ...]
) -> dict[str, Any]:
    header = disk.top.header if disk.top else None
    return {
        "target": disk.target,
        "way": way.value,
        "path": disk.path,
        "format": disk.format or "raw",
        "bytes": sum(layer.allocated_bytes for layer in disk.chain) if way is Way.COPY else 0,
        "virtual": header.virtual_bytes if header is not None else 0,
        "layers": [_layer_spec(case, layer) for layer in layers],
    }


def _layer_spec(case: MigrateCase, layer: Layer) -> dict[str, Any]:
    directory, file = posixpath.split(layer.path)
    pool = case.facts.target.pool_at(directory)
    header = layer.header
    return {
        "path": layer.path,
        "pool": pool.name if pool is not None else "",
        "file": file,
        "length": layer.length_bytes,
        "bytes": layer.allocated_bytes,
        "format": header.format if header is not None else "raw",
        "virtual": header.virtual_bytes if header is not None else layer.length_bytes,
        "cluster": header.cluster_bytes if header is not None else 0,
        "compat": header.compat if header is not None else "",
    }


def _steps(case: MigrateCase, spec: Mapping[str, Any]) -> list[Step]:
    source, target = spec["source"], spec["target"]
    steps = [
        Step(id=f"volume:{layer['path']}", title=f"create {layer['path']}", host=target)
        for disk in spec["disks"]
        for layer in disk["layers"]
    ]
    if case.live:
        copied = sum(disk["bytes"] for disk in spec["disks"])
        what = "memory and disks" if copied else "memory"
        steps.append(
            Step(
                id="move",
                title=f"move {what} to {target}",
                host=source,
                bytes=copied + spec["memory_bytes"],
            )
        )
    else:
        steps += [
            Step(
                id=f"carry:{layer['path']}",
                title=f"carry {layer['path']} to {target}",
                host=source,
                bytes=layer["bytes"],
            )
            for disk in spec["disks"]
            for layer in disk["layers"]
        ]
        if spec["nvram"]:
            steps.append(
                Step(id="nvram", title=f"copy the firmware variables {spec['nvram']}", host=target)
            )
        reading = sum(layer["length"] for disk in spec["disks"] for layer in disk["layers"])
        steps.append(
            Step(
                id="verify",
                title="compare the content of both ends" if spec["verify"] else "check the copies",
                host=target,
                bytes=2 * reading if spec["verify"] else 0,
            )
        )
        steps.append(Step(id="define", title=f"define the VM on {target}", host=target))
    if spec["stay_defined"] or spec["temporary"]:
        steps.append(Step(id="mark", title=f"note on {source} that the VM is away", host=source))
    elif spec["persistent"]:
        steps.append(Step(id="undefine", title=f"undefine the VM on {source}", host=source))
    return steps


def _binding(case: MigrateCase) -> dict[str, str]:
    facts = case.facts
    label, target = facts.vm.vm.label, facts.target.name
    bound = {
        f"the state of {label}": facts.vm.vm.state.value.replace("_", " "),
        f"the definition of {label}": digest(facts.vm.inactive_xml),
        f"the VM on {target}": facts.uuid_on_target.value if facts.uuid_on_target else "absent",
        f"the name {facts.vm.vm.name} on {target}": "taken" if facts.name_on_target else "free",
        f"the job on {label}": facts.vm.job or "none",
    }
    for disk, way in case.ways:
        bound[f"disk {disk.target}"] = f"{disk.path} ({way.value})"
        if way is not Way.COPY:
            continue
        for layer in disk.chain:
            known = facts.files.get(layer.path)
            bound[f"the file {layer.path} on {target}"] = (
                "there" if known is not None and known.exists else "absent"
            )
            if not case.live:
                bound[f"the file {layer.path}"] = f"{layer.length_bytes} bytes"
            pool = facts.target.pool_at(posixpath.dirname(layer.path))
            bound[f"the pool over {posixpath.dirname(layer.path)} on {target}"] = (
                "active" if pool is not None and pool.active else "not active"
            )
    return bound


def _both_emulate(facts: MigrateFacts) -> bool:
    return "qemu" in facts.source.domain_types and "qemu" in facts.target.domain_types
