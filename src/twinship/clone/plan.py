"""The plan of a clone: pure, the same facts and ids give the same plan."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

from twinship.clone.asked import asked, of_template
from twinship.clone.checks import TABLE, CloneCase
from twinship.clone.disks import DEVICE_POOLS, SHARES, DiskPlan, plan_disks
from twinship.clone.facts import CloneFacts
from twinship.clone.firstboot import hostname_for
from twinship.clone.settings import problems, settings_of, with_settings
from twinship.domxml.attachments import with_seed
from twinship.domxml.document import parse, serialize
from twinship.domxml.identity import NewIdentity, renew
from twinship.domxml.rewrite import redacted, with_disks, with_mark, without_mark
from twinship.domxml.sealed import without_sealed
from twinship.domxml.template import template_of, without_template
from twinship.domxml.told import with_told, without_told
from twinship.model.host import migration_uri
from twinship.model.plan import Plan, PlannedXml, Step
from twinship.model.request import (
    CloneRequest,
    NewIds,
    StateWay,
)
from twinship.planning import names
from twinship.planning.binding import digest
from twinship.planning.slots import copy_slots

SCHEMA = 1
NVRAM_SUFFIX = "_VARS.fd"


def plan_clone(facts: CloneFacts, request: CloneRequest, ids: NewIds) -> Plan:
    """What cloning ``request.vm`` would do."""
    source = facts.source.vm
    request = of_template(facts, request)
    name = request.name or names.free_clone_name(source.name, facts.names)
    uuid = names.canonical_uuid(request.uuid) or ids.uuid
    planned = plan_disks(facts, request, name)
    disks = planned.made
    needed: dict[str, int] = {}
    for disk in disks:
        needed[disk["pool"]] = needed.get(disk["pool"], 0) + int(disk["bytes"])
    nvram = _nvram_path(facts, request, name)
    settings = settings_of(request, name)
    seed = _seed(facts, settings, planned, name)
    macs = [*request.macs[: len(ids.macs)], *ids.macs[len(request.macs) :]]
    host = facts.host.name
    spec: dict[str, Any] = {
        "schema": SCHEMA,
        "host": host,
        "source": {
            "host": source.host,
            "name": source.name,
            "uuid": source.uuid,
            "active": source.state.active,
        },
        "mode": request.mode.value,
        "name": name,
        "uuid": uuid,
        "identity": {
            "genid": ids.genid,
            "macs": macs,
        },
        "disks": list(disks),
        "settings": settings,
        "seed": seed,
        "grow": dict(request.grow),
        "reservation": _reservation(facts, request, name, macs),
        "tpm": _tpm(facts, request, uuid),
        "kept": planned.kept,
        "dropped": list(planned.dropped),
        "uri": migration_uri(facts.address),
        "nvram": _nvram(facts, request, nvram),
        "in_use": facts.in_use,
        "snapshot": request.snapshot,
        "guard": [disk["target"] for disk in disks if disk["method"] == "overlay"],
        "hold": _hold(facts, planned, ids),
        "carrier": {"name": f"twinship-carrier-{ids.carrier[:8]}", "uuid": ids.carrier},
        "machine": _carrier_machine(facts),
        "start": request.start,
        "rate": request.rate,
        "verify": request.verify,
        "request": {"vm": f"{source.host}/{source.uuid}", **asked(request)},
    }
    binding = _binding(facts, name, disks)
    spec["binding"] = binding
    refused = bool(names.problem(name)) or bool(problems(facts.source.xml, settings))
    text = "" if refused else definition(facts.source.xml, spec)
    case = CloneCase(
        facts=facts,
        request=request,
        name=name,
        uuid=uuid,
        pools=tuple(needed.items()),
        kept=planned.kept,
        paths=tuple(disk["path"] for disk in disks),
        definition=text,
    )
    checks = TABLE.run(case)
    xml = redacted(text) if text else ""
    return Plan(
        kind="clone",
        title=f"clone {source.label} to {f'{host}/' if facts.across else ''}{name}",
        checks=checks,
        steps=tuple(_steps(spec)),
        estimate_s=None,
        domain_xml=(PlannedXml(name=name, host=host, xml=xml),) if xml else (),
        resources=(
            f"vm/{source.uuid}" if spec["hold"] else f"read:vm/{source.uuid}",
            f"name/{host}/{name}",
            *(f"file/{host}/{disk['path']}" for disk in disks),
            *((f"file/{host}/{seed['path']}",) if seed else ()),
            *((f"file/{host}/{nvram}",) if nvram else ()),
            *((f"address/{host}/{request.address}",) if request.address else ()),
        ),
        slots=copy_slots((host, disk["pool"]) for disk in disks if disk["method"] not in SHARES),
        spec=spec,
        binding=binding,
    )


def _hold(facts: CloneFacts, planned: DiskPlan, ids: NewIds) -> dict[str, Any] | None:
    """What is held still of a running source while it is copied."""
    source = facts.source
    if not facts.in_use or not planned.made:
        return None
    by_target = {disk.target: disk for disk in source.disks}
    made = {new["target"]: new for new in planned.made}
    short, back = ids.carrier[:8], _another_uuid(ids.carrier)
    return {
        "freeze": source.agent_connected,
        "disks": {
            target: {
                "path": new["source"],
                "format": new["source_format"],
                "backing": new["backing"],
                "overlay": f"{new['source']}.twinship-{short}",
                "pool": by_target[target].chain[0].pool,
            }
            for target, new in made.items()
        },
        "others": [disk.target for disk in source.disks if disk.target not in made],
        "carrier": {
            "name": f"twinship-carrier-{back[:8]}",
            "uuid": back,
        },
    }


def _another_uuid(uuid: str) -> str:
    """A second one made of a random one."""
    return str(uuids.uuid5(uuids.UUID(uuid), "back"))


def _seed(
    facts: CloneFacts, settings: Mapping[str, Any], planned: DiskPlan, name: str
) -> dict[str, Any] | None:
    """Where the cloud-init image goes; None where none is asked for."""
    if not settings.get("cloud_init"):
        return None
    used = (disk["pool"] for disk in planned.made if not disk["to_device"])
    there = (p.name for p in facts.host.pools if p.active and p.type not in DEVICE_POOLS)
    pool = next(chain(used, there), "")
    directory = next((p.path for p in facts.host.pools if p.name == pool), "").rstrip("/")
    taken = set(facts.files.get(pool, frozenset())) | {disk["file"] for disk in planned.made}
    file = names.file_name(f"{name}-seed", "iso", ".iso", taken, alone=True)
    return {"pool": pool, "file": file, "path": f"{directory}/{file}"}


def _reservation(
    facts: CloneFacts, request: CloneRequest, name: str, macs: list[str]
) -> dict[str, str] | None:
    """The address its libvirt network shall give to the clone."""
    if not request.address or not macs or not facts.network:
        return None
    return {
        "network": facts.network,
        "mac": macs[0],
        "address": request.address,
        "name": hostname_for(name),
    }


def _tpm(facts: CloneFacts, request: CloneRequest, uuid: str) -> dict[str, str] | None:
    """The TPM's state to copy; None where there is none to copy."""
    if facts.summary.tpm != "emulator" or request.tpm_way is not StateWay.COPY:
        return None
    version = facts.summary.tpm_version
    return {
        "source": names.tpm_directory(facts.source.vm.uuid, version),
        "path": names.tpm_directory(uuid, version),
    }


def _nvram(facts: CloneFacts, request: CloneRequest, path: str) -> dict[str, Any] | None:
    """The firmware variables: where they are, where the clone's go, and whether they are copied."""
    if not path:
        return None
    copy = request.nvram_way is StateWay.COPY
    return {"source": facts.summary.nvram, "path": path, "copy": copy}


def _nvram_path(facts: CloneFacts, request: CloneRequest, name: str) -> str:
    source = facts.summary.nvram
    if not source or request.nvram:
        return request.nvram if source else ""
    directory = source.rpartition("/")[0]
    return f"{directory}/{name}{NVRAM_SUFFIX}"


def definition(source_xml: str, spec: Mapping[str, Any]) -> str:
    """The clone's definition: the source's, with the spec's decisions. Holds secrets.

    The spec itself holds none, so that the database does not either.
    """
    root = parse(without_told(source_xml))
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
    text = with_disks(
        serialize(root),
        {disk["target"]: (disk["path"], disk["format"]) for disk in spec["disks"]}
        | {target: (path, "") for target, path in spec["kept"].items()},
        dropped=frozenset(spec["dropped"]),
        devices=frozenset(disk["target"] for disk in spec["disks"] if disk.get("to_device")),
    )
    text = with_settings(text, spec["settings"])
    if seed := spec["seed"]:
        text = with_told(with_seed(text, seed["path"])[0], seed=seed["path"])
    text = without_mark(text, "reservation")
    if reservation := spec["reservation"]:
        text = with_mark(text, "reservation", reservation)
    mark = {"of": source["uuid"], "name": source["name"], "mode": "full"}  # who defines adds bases
    if (template := template_of(source_xml)) is not None:
        mark |= {"template": template.name, "version": str(template.version)}
    text = without_template(without_sealed(without_mark(text, "away")))
    return with_mark(text, "clone", mark)


def _carrier_machine(facts: CloneFacts) -> dict[str, str]:
    """What a carrier on this host is built as: emulation is enough, it runs no instruction."""
    summary = facts.summary
    return {
        "domain_type": "qemu" if "qemu" in facts.host.domain_types else summary.domain_type,
        "arch": summary.arch,
        "machine": summary.machine,
        "emulator": summary.emulator,
    }


_STEP_TITLES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "reflink": lambda disk: (
        f"reflink {disk['source']} to {disk['path']}"
        + (", or copy it where the filesystem cannot" if disk["reflink"] == "libvirt" else "")
    ),
    "overlay": lambda disk: f"create {disk['path']} over {disk['source']}",
    "carrier": lambda disk: f"copy {disk['source']} to {disk['path']}",
    "flatten": lambda disk: (
        f"copy {disk['source']} to {disk['path']}"
        + (", with what it is based on" if disk["backing"] else "")
    ),
}


def _steps(spec: Mapping[str, Any]) -> list[Step]:
    host = spec["host"]
    steps = []
    if spec["hold"]:
        title = f"hold the disks of {spec['source']['name']} still"
        steps.append(Step(id="hold", title=title, host=spec["source"]["host"]))
    for disk in spec["disks"]:
        steps.append(
            Step(
                id=f"volume:{disk['target']}",
                title=_STEP_TITLES[disk["method"]](disk),
                host=host,
                bytes=disk["bytes"],
                method=disk["method"],
                why_not_faster=tuple(disk["why_not_faster"]),
            )
        )
    if spec["nvram"]:
        begin = "copy the" if spec["nvram"]["copy"] else "fresh"
        title = f"{begin} firmware variables: {spec['nvram']['path']}"
        steps.append(Step(id="nvram", title=title, host=host))
    if spec["tpm"]:
        steps.append(Step(id="tpm", title="copy the TPM's state", host=host))
    if spec["seed"]:
        title = f"create {spec['seed']['path']} for cloud-init"
        steps.append(Step(id="seed", title=title, host=host))
    steps.append(Step(id="verify", title="check size and format of every copy", host=host))
    if any(disk["back_to"] for disk in spec["disks"]):
        title = f"go back to snapshot {spec['snapshot']} in the copies"
        steps.append(Step(id="back", title=title, host=host))
    for target, size in spec["grow"].items():
        title = f"grow disk {target} to {size / 2**30:g} GiB"
        steps.append(Step(id=f"grow:{target}", title=title, host=host))
    if reservation := spec["reservation"]:
        title = f"reserve {reservation['address']} in network {reservation['network']}"
        steps.append(Step(id="reserve", title=title, host=host))
    if spec["hold"]:
        title = f"put {spec['source']['name']} on its own disks again"
        steps.append(Step(id="give-back", title=title, host=spec["source"]["host"]))
    if spec["guard"]:
        title = f"make the disks of {spec['source']['name']} read-only"
        steps.append(Step(id="guard", title=title, host=host))
    steps.append(Step(id="define", title=f"define {spec['name']}", host=host))
    if spec["start"]:
        steps.append(Step(id="start", title=f"start {spec['name']}", host=host))
    return steps


def _binding(facts: CloneFacts, name: str, disks: tuple[Mapping[str, Any], ...]) -> dict[str, str]:
    source = facts.source
    bound = {
        f"the state of {source.vm.label}": source.vm.state.value.replace("_", " "),
        f"the definition of {source.vm.label}": digest(source.xml),
        f"the name {name} on {facts.host.name}": "taken" if name in facts.names else "free",
    }
    for disk in source.disks:
        bound[f"disk {disk.target}"] = ", ".join(
            layer.path if facts.in_use else f"{layer.path} of {layer.length_bytes} bytes"
            for layer in disk.chain  # the file of a disk in use may grow
        )
    for new in disks:
        pool = next((p for p in facts.host.pools if p.name == new["pool"]), None)
        there = "active" if pool is not None and pool.active else "not active"
        bound[f"pool {new['pool']}"] = there
        taken = new["file"] in facts.files.get(new["pool"], frozenset())
        bound[f"the file {new['path']}"] = "taken" if taken else "free"
    return bound
