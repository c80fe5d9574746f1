"""The plan of sealing a VM in place; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twinship.guestfs.inspect import Guest
from twinship.guestfs.sealing import Manifest
from twinship.model.plan import Plan, Severity, Step
from twinship.model.request import SealRequest
from twinship.model.vm import Disk
from twinship.planning.binding import digest
from twinship.seal.checks import TABLE
from twinship.seal.choice import choice_document, choice_from
from twinship.seal.facts import SealFacts, sound


def plan_seal_vm(facts: SealFacts, request: SealRequest, word: str) -> Plan:
    """What sealing the VM would do. ``word``: a few random letters for names of files."""
    vm = facts.vm.vm
    taken: dict[str, set[str]] = {pool: set(names) for pool, names in facts.files.items()}
    disks = [_disk(disk, word, taken) for disk in facts.vm.file_disks if sound(disk)]
    order = list(Severity)
    checks = (*TABLE.run(facts), *facts.look.findings)
    files = [disk["undo"]["path"] for disk in disks]
    binding = _binding(facts)
    return Plan(
        kind="seal",
        title=f"seal {vm.label}",
        checks=tuple(sorted(checks, key=lambda finding: order.index(finding.severity))),
        steps=tuple(_steps(facts, disks, request)),
        estimate_s=None,
        manifest=facts.look.manifest.to_json() if facts.look.manifest is not None else None,
        resources=(f"vm/{vm.uuid}", *(f"file/{vm.host}/{path}" for path in files)),
        spec={
            "schema": 1,
            "host": vm.host,
            "uuid": vm.uuid,
            "name": vm.name,
            "disks": disks,
            "choice": choice_document(request.choice),
            "commit": request.commit,
            "binding": binding,
        },
        binding=binding,
    )


def asked_for(spec: Mapping[str, Any]) -> SealRequest:
    """The request a spec was made of."""
    return SealRequest(
        vm=f"{spec['host']}/{spec['uuid']}",
        choice=choice_from(spec["choice"]),
        commit=spec["commit"],
    )


def sealing_title(guest: Guest | None, manifest: Manifest | None) -> str:
    """What a step says of sealing."""
    if manifest is None:
        return "seal the guest"
    name = f" ({guest.name})" if guest is not None and guest.name else ""
    return f"seal the guest{name}: {len(manifest.entries)} paths go or are changed"


def _disk(disk: Disk, word: str, taken: dict[str, set[str]]) -> dict[str, Any]:
    top = disk.chain[0]
    assert top.header is not None
    return {
        "target": disk.target,
        "path": top.path,
        "format": top.header.format,
        "virtual": top.header.virtual_bytes,
        "pool": top.pool,
        "backing": [[layer.path, layer.header.format] for layer in disk.chain[1:] if layer.header],
        "undo": _beside(top.path, f"twinship-undo-{word}", taken[top.pool]),
    }


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
        "the VMs that stand on it": ", ".join(facts.children) or "none",
    }
    for disk in vm.file_disks:
        bound[f"disk {disk.target}"] = ", ".join(
            f"{layer.path} of {layer.length_bytes} bytes" for layer in disk.chain
        )
    return bound


def _steps(facts: SealFacts, disks: list[dict[str, Any]], request: SealRequest) -> list[Step]:
    host = facts.vm.vm.host
    steps = []
    for disk in disks:
        title = f"create {disk['undo']['path']}, for what changes"
        steps.append(Step(id=f"undo:{disk['target']}", title=title, host=host))
    title = sealing_title(facts.look.guest, facts.look.manifest)
    steps.append(Step(id="seal", title=title, host=host))
    steps.append(Step(id="mark", title=f"note in {facts.vm.vm.name} that it is sealed", host=host))
    if request.commit:
        steps.append(Step(id="clean", title="delete what could undo it", host=host))
    return steps
