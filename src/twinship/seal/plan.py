"""The plan of sealing VMs in place; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from twinship.guestfs.inspect import Guest
from twinship.guestfs.sealing import Manifest
from twinship.model.plan import Finding, Plan, Severity, Step
from twinship.model.request import SealRequest
from twinship.model.vm import Disk
from twinship.planning.binding import digest
from twinship.seal.checks import TABLE
from twinship.seal.choice import choice_document, choice_from
from twinship.seal.facts import SealFacts, sound
from twinship.seal.look import Look


def plan_seal_vms(everyone: Sequence[SealFacts], request: SealRequest, word: str) -> Plan:
    """What sealing the VMs would do. ``word``: a few random letters for names of files."""
    order = list(Severity)
    taken: dict[tuple[str, str], set[str]] = {
        (facts.host.name, pool): set(names)
        for facts in everyone
        for pool, names in facts.files.items()
    }
    vms: list[dict[str, Any]] = []
    checks: list[Finding] = []
    binding: dict[str, str] = {}
    for facts in everyone:
        checks += [*TABLE.run(facts), *facts.look.findings]
        binding |= _binding(facts)
        vms.append(_vm(facts, word, taken))
    labels = ", ".join(facts.vm.vm.label for facts in everyone[:3])
    more = f" and {len(everyone) - 3} more" if everyone[3:] else ""
    return Plan(
        kind="seal",
        title=f"seal {labels}{more}",
        checks=tuple(sorted(checks, key=lambda finding: order.index(finding.severity))),
        steps=tuple(_steps(everyone, vms, request)),
        estimate_s=None,
        manifest=manifest_of((facts.vm.vm.label, facts.look) for facts in everyone),
        resources=tuple(_resources(vms)),
        spec={
            "schema": 1,
            "vms": vms,
            "choice": choice_document(request.choice),
            "commit": request.commit,
            "binding": binding,
        },
        binding=binding,
    )


def asked_for(spec: Mapping[str, Any]) -> SealRequest:
    """The request a spec was made of."""
    return SealRequest(
        vms=tuple(f"{vm['host']}/{vm['uuid']}" for vm in spec["vms"]),
        choice=choice_from(spec["choice"]),
        commit=spec["commit"],
    )


def manifest_of(looks: Iterable[tuple[str, Look]]) -> dict[str, Any] | None:
    """What goes from each guest, as a plan has it; None where none was looked at."""
    seen = [
        {"vm": label, **look.manifest.to_json()}
        for label, look in looks
        if look.manifest is not None
    ]
    return {"guests": seen} if seen else None


def sealing_title(guest: Guest | None, manifest: Manifest | None) -> str:
    """What a step says of sealing."""
    if manifest is None:
        return "seal the guest"
    name = f" ({guest.name})" if guest is not None and guest.name else ""
    return f"seal the guest{name}: {len(manifest.entries)} paths go or are changed"


def _vm(facts: SealFacts, word: str, taken: dict[tuple[str, str], set[str]]) -> dict[str, Any]:
    vm = facts.vm.vm
    disks = [_disk(disk, vm.host, word, taken) for disk in facts.vm.file_disks if sound(disk)]
    return {"host": vm.host, "uuid": vm.uuid, "name": vm.name, "disks": disks}


def _disk(
    disk: Disk, host: str, word: str, taken: dict[tuple[str, str], set[str]]
) -> dict[str, Any]:
    top = disk.chain[0]
    assert top.header is not None
    return {
        "target": disk.target,
        "path": top.path,
        "format": top.header.format,
        "virtual": top.header.virtual_bytes,
        "pool": top.pool,
        "backing": [[layer.path, layer.header.format] for layer in disk.chain[1:] if layer.header],
        "undo": _beside(top.path, f"twinship-undo-{word}", taken[host, top.pool]),
    }


def _resources(vms: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for vm in vms:
        yield f"vm/{vm['uuid']}"
        for disk in vm["disks"]:
            yield f"file/{vm['host']}/{disk['undo']['path']}"


def _beside(path: str, suffix: str, taken: set[str]) -> dict[str, str]:
    directory, _, name = path.rpartition("/")
    file = wanted = f"{name}.{suffix}"
    number = 1
    while file in taken:
        number += 1
        file = f"{wanted}-{number}"
    taken.add(file)
    return {"file": file, "path": f"{directory}/{file}"}


def _binding(facts: SealFacts) -> dict[str, str]:
    vm = facts.vm
    bound = {
        f"the state of {vm.vm.label}": vm.vm.state.value.replace("_", " "),
        f"the definition of {vm.vm.label}": digest(vm.xml),
        f"the VMs that stand on {vm.vm.label}": ", ".join(facts.children) or "none",
    }
    for disk in vm.file_disks:
        bound[f"disk {disk.target} of {vm.vm.label}"] = ", ".join(
            f"{layer.path} of {layer.length_bytes} bytes" for layer in disk.chain
        )
    return bound


def _steps(
    everyone: Sequence[SealFacts], vms: Sequence[Mapping[str, Any]], request: SealRequest
) -> Iterator[Step]:
    for vm in vms:
        for disk in vm["disks"]:
            title = f"create {disk['undo']['path']}, for what changes"
            step = f"undo:{vm['host']}/{vm['name']}:{disk['target']}"
            yield Step(id=step, title=title, host=vm["host"])
    sealed = [facts.vm.vm for facts in everyone]
    for one, facts in zip(sealed, everyone, strict=True):
        title = sealing_title(facts.look.guest, facts.look.manifest)
        yield Step(id=f"seal:{one.label}", title=f"{one.name}: {title}", host=one.host)
    for one in sealed:
        title = f"note in {one.name} that it is sealed"
        yield Step(id=f"mark:{one.label}", title=title, host=one.host)
    for host in dict.fromkeys(vm["host"] for vm in vms) if request.commit else ():
        yield Step(id=f"clean:{host}", title="delete what could undo it", host=host)
