"""The plan of a clone: pure, the same facts and ids give the same plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twinship.clone.checks import TABLE, CloneCase
from twinship.clone.facts import CloneFacts
from twinship.domxml.document import parse, serialize
from twinship.domxml.identity import NewIdentity, renew
from twinship.domxml.rewrite import redacted, with_disk_paths, with_mark, without_mark
from twinship.model.plan import Plan, PlannedXml, Step
from twinship.model.request import CloneRequest, NewIds
from twinship.model.vm import Disk
from twinship.planning import names
from twinship.planning.binding import digest
from twinship.planning.slots import copy_slots

SCHEMA = 1
NVRAM_SUFFIX = "_VARS.fd"


def plan_clone(facts: CloneFacts, request: CloneRequest, ids: NewIds) -> Plan:
    """What cloning ``request.vm`` would do."""
    source = facts.source.vm
    name = request.name or names.free_clone_name(source.name, facts.names)
    uuid = request.uuid or ids.uuid
    disks = tuple(_disk_specs(facts, request, name))
    needed: dict[str, int] = {}
    for disk in disks:
        needed[disk["pool"]] = needed.get(disk["pool"], 0) + int(disk["bytes"])
    case = CloneCase(
        facts=facts, request=request, name=name, uuid=uuid, pools=tuple(needed.items())
    )
    checks = TABLE.run(case)
    nvram = _nvram_path(facts, name)
    spec: dict[str, Any] = {
        "schema": SCHEMA,
        "host": source.host,
        "source": {"name": source.name, "uuid": source.uuid},
        "name": name,
        "uuid": uuid,
        "identity": {
            "genid": ids.genid,
            "macs": [*request.macs[: len(ids.macs)], *ids.macs[len(request.macs) :]],
        },
        "disks": list(disks),
        "nvram": {"source": facts.summary.nvram, "path": nvram} if nvram else None,
        "carrier": {"name": f"twinship-carrier-{ids.carrier[:8]}", "uuid": ids.carrier},
        "machine": _carrier_machine(facts),
        "start": request.start,
        "rate": request.rate,
        "verify": request.verify,
        "request": {"vm": f"{source.host}/{source.uuid}", **_asked(request)},
    }
    binding = _binding(facts, name, disks)
    spec["binding"] = binding
    xml = "" if names.problem(name) else redacted(definition(facts.source.xml, spec))
    return Plan(
        kind="clone",
        title=f"clone {source.label} to {name}",
        checks=checks,
        steps=tuple(_steps(facts, spec)),
        estimate_s=None,
        domain_xml=(PlannedXml(name=name, host=source.host, xml=xml),) if xml else (),
        resources=(
            f"read:vm/{source.uuid}",
            f"name/{source.host}/{name}",
            *(f"file/{source.host}/{disk['path']}" for disk in disks),
        ),
        slots=copy_slots((source.host, disk["pool"]) for disk in disks),
        spec=spec,
        binding=binding,
    )


def _disk_specs(facts: CloneFacts, request: CloneRequest, name: str) -> list[dict[str, Any]]:
    ours = facts.source.file_disks
    taken: dict[str, set[str]] = {pool: set(files) for pool, files in facts.files.items()}
    specs = []
    for disk in ours:
        top = disk.top
        if top is None or top.header is None:
            continue
        pool = request.pool or top.pool
        suffix = _suffix(top.path, disk.format)
        file = names.file_name(
            name, disk.target, suffix, taken.setdefault(pool, set()), alone=len(ours) == 1
        )
        taken[pool].add(file)
        directory = next((p.path for p in facts.host.pools if p.name == pool), "").rstrip("/")
        flatten = bool(top.header.backing_path)
        specs.append(
            {
                "target": disk.target,
                "pool": pool,
                "file": file,
                "path": f"{directory}/{file}",
                "source": top.path,
                "format": top.header.format,
                "method": "flatten" if flatten else "carrier",
                "bytes": _bytes_to_copy(disk),
                "length": top.length_bytes,
                "virtual": top.header.virtual_bytes,
                "cluster": top.header.cluster_bytes,
                "compat": top.header.compat,
                "features": list(top.header.features),
                "backing": [
                    [layer.path, layer.header.format if layer.header else "raw"]
                    for layer in disk.chain[1:]
                ],
            }
        )
    return specs


def _bytes_to_copy(disk: Disk) -> int:
    return sum(layer.allocated_bytes for layer in disk.chain)


def _suffix(path: str, kind: str) -> str:
    last = path.rpartition("/")[2]
    stem, dot, suffix = last.rpartition(".")
    if stem and dot and len(suffix) <= 7:
        return f".{suffix}"
    return ".qcow2" if kind == "qcow2" else ".img"


def _nvram_path(facts: CloneFacts, name: str) -> str:
    source = facts.summary.nvram
    if not source:
        return ""
    directory = source.rpartition("/")[0]
    return f"{directory}/{name}{NVRAM_SUFFIX}"


def definition(source_xml: str, spec: Mapping[str, Any]) -> str:
    """The clone's definition: the source's, with the spec's decisions. Holds secrets.

    The spec itself holds none, so that the database does not either.
    """
    root = parse(source_xml)
    source, identity = spec["source"], spec["identity"]
    renew(
        root,
        NewIdentity(
            old_name=source["name"],
            name=spec["name"],
            uuid=spec["uuid"],
            genid=identity["genid"],
            macs=tuple(identity["macs"]),
            nvram=spec["nvram"]["path"] if spec["nvram"] else "",
        ),
    )
    text = with_disk_paths(
        serialize(root), {disk["target"]: disk["path"] for disk in spec["disks"]}
    )
    mark = {"of": source["uuid"], "name": source["name"], "mode": "full"}
    return with_mark(without_mark(text, "away"), "clone", mark)


def _carrier_machine(facts: CloneFacts) -> dict[str, str]:
    """What a carrier on this host is built as: emulation is enough, it runs no instruction."""
    summary = facts.summary
    return {
        "domain_type": "qemu" if "qemu" in facts.host.domain_types else summary.domain_type,
        "arch": summary.arch,
        "machine": summary.machine,
        "emulator": summary.emulator,
    }


def _asked(request: CloneRequest) -> dict[str, Any]:
    return {
        "name": request.name,
        "mode": request.mode.value,
        "pool": request.pool,
        "uuid": request.uuid,
        "macs": list(request.macs),
        "start": request.start,
        "rate": request.rate,
        "verify": request.verify,
    }


def _steps(facts: CloneFacts, spec: Mapping[str, Any]) -> list[Step]:
    host = spec["host"]
    steps = [
        Step(id=f"volume:{disk['target']}", title=f"create {disk['path']}", host=host)
        for disk in spec["disks"]
    ]
    steps += [
        Step(
            id=f"copy:{disk['target']}",
            title=f"copy {disk['source']}"
            + (" and what it is based on" if disk["backing"] else ""),
            host=host,
            bytes=disk["bytes"],
        )
        for disk in spec["disks"]
    ]
    if spec["nvram"]:
        steps.append(
            Step(
                id="nvram",
                title=f"copy the firmware variables to {spec['nvram']['path']}",
                host=host,
            )
        )
    steps.append(Step(id="verify", title="check size and format of every copy", host=host))
    steps.append(Step(id="define", title=f"define {spec['name']}", host=host))
    if spec["start"]:
        steps.append(Step(id="start", title=f"start {spec['name']}", host=host))
    return steps


def _binding(facts: CloneFacts, name: str, disks: tuple[Mapping[str, Any], ...]) -> dict[str, str]:
    source = facts.source
    bound = {
        f"the state of {source.vm.label}": source.vm.state.value.replace("_", " "),
        f"the definition of {source.vm.label}": digest(source.xml),
        f"the name {name} on {source.vm.host}": "taken" if name in facts.names else "free",
    }
    for disk in source.file_disks:
        bound[f"disk {disk.target}"] = ", ".join(
            f"{layer.path} of {layer.length_bytes} bytes" for layer in disk.chain
        )
    for new in disks:
        pool = next((p for p in facts.host.pools if p.name == new["pool"]), None)
        there = "active" if pool is not None and pool.active else "not active"
        bound[f"pool {new['pool']}"] = there
        taken = new["file"] in facts.files.get(new["pool"], frozenset())
        bound[f"the file {new['path']}"] = "taken" if taken else "free"
    return bound
