"""The JSON documents others script against; DESIGN §4 fixes them. A missing value is null."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from twinship.model.diagnosis import Diagnosis
from twinship.model.errors import TwinshipError
from twinship.model.host import HostStatus
from twinship.model.operation import Event, Operation
from twinship.model.plan import Finding, Plan, Step
from twinship.model.vm import Disk, Vm, VmAnswer, VmFacts

Document = dict[str, Any]


def listing(items: list[Document]) -> Document:
    """A list as the contract has it."""
    return {"items": items, "next": None}


def plan_document(plan: Plan) -> Document:
    """A plan."""
    return {
        "kind": plan.kind,
        "title": plan.title,
        "feasible": plan.feasible,
        "checks": [finding_document(check) for check in plan.checks],
        "steps": [_step(step) for step in plan.steps],
        "bytes": plan.bytes,
        "estimate_s": plan.estimate_s,
        "forecast": dataclasses.asdict(plan.forecast) if plan.forecast else None,
        "domain_xml": [dataclasses.asdict(xml) for xml in plan.domain_xml],
        "diff": plan.diff or None,
        "manifest": dict(plan.manifest) if plan.manifest is not None else None,
    }


def diagnosis_document(diagnosis: Diagnosis) -> Document:
    """What the doctor found."""
    return {
        "items": [
            {
                "code": ailment.code,
                "message": ailment.message,
                "cure": ailment.cure,
                "object": ailment.object or None,
                "host": ailment.host or None,
                "certain": ailment.certain,
                "mended": ailment.mended,
                "note": ailment.note,
            }
            for ailment in diagnosis.ailments
        ],
        "hosts": diagnosis.hosts,
        "vms": diagnosis.vms,
        "next": None,
    }


def finding_document(finding: Finding) -> Document:
    """One finding of a plan."""
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "message": finding.message,
        "hint": finding.hint or None,
        "object": finding.object or None,
        "fix": finding.cure.sentence if finding.cure is not None else None,
        "fixed": finding.cured,
    }


def operation_document(op: Operation) -> Document:
    """An operation."""
    error = op.error
    return {
        "id": op.id,
        "kind": op.kind,
        "title": op.title,
        "state": op.state.value,
        "created": stamp(op.created),
        "started": stamp(op.started),
        "ended": stamp(op.ended),
        "user": op.user,
        "resources": list(op.resources),
        "parent": op.parent,
        "children": list(op.children),
        "progress": dataclasses.asdict(op.progress),
        "waiting_for": op.waiting_for or None,
        "leftovers": list(op.leftovers),
        "result": dict(op.result) if op.result is not None else None,
        "error": {key: error.get(key) for key in ("code", "message", "cause", "hint")}
        if error is not None
        else None,
    }


def event_document(event: Event) -> Document:
    """One line of an operation's history."""
    return {
        "seq": event.seq,
        "at": stamp(event.at),
        "kind": event.kind,
        "phase": event.phase or None,
        "data": dict(event.data),
    }


def vm_document(vm: Vm) -> Document:
    """A VM of a list."""
    return {
        "name": vm.name,
        "uuid": vm.uuid,
        "host": vm.host,
        "state": vm.state.value,
        "persistent": vm.persistent,
        "vcpus": vm.vcpus,
        "memory_bytes": vm.memory_bytes,
    }


def vms_document(answers: tuple[VmAnswer, ...]) -> Document:
    """``vm list``: the VMs, and beside them the hosts that could not be asked."""
    document = listing([vm_document(vm) for answer in answers for vm in answer.vms])
    document["unreachable"] = [
        {"host": answer.host, "error": answer.error, "hint": answer.hint or None}
        for answer in answers
        if answer.error
    ]
    return document


def vm_facts_document(facts: VmFacts) -> Document:
    """``vm show``."""
    return {
        **vm_document(facts.vm),
        "pause_reason": facts.pause_reason or None,
        "job": facts.job or None,
        "snapshots": facts.snapshots,
        "managed_save": facts.managed_save,
        "autostart": facts.autostart,
        "agent_connected": facts.agent_connected,
        "disks": [_disk_document(disk) for disk in facts.disks],
    }


def host_document(status: HostStatus) -> Document:
    """A host."""
    record, facts = status.record, status.facts
    return {
        "name": record.name,
        "uri": record.uri,
        "address": record.address or None,
        "site": record.site or None,
        "labels": dict(record.labels),
        "reachable": status.reachable,
        "error": status.error or None,
        "hint": status.hint or None,
        "vms_running": status.vms_running,
        "vms_total": status.vms_total,
        "facts": _facts_document(status) if facts is not None else None,
    }


def error_document(error: TwinshipError) -> Document:
    """An error, as the one document of a command that failed."""
    return {"error": error.as_dict()}


def stamp(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC, to the millisecond."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _facts_document(status: HostStatus) -> Document:
    facts = dataclasses.asdict(status.facts) if status.facts is not None else {}
    for key in ("libvirt_version", "qemu_version"):
        facts[key] = ".".join(str(part) for part in facts[key])
    return facts


def _disk_document(disk: Disk) -> Document:
    return {
        "target": disk.target,
        "device": disk.device,
        "source_type": disk.source_type,
        "path": disk.path or None,
        "format": disk.format or None,
        "bus": disk.bus or None,
        "readonly": disk.readonly,
        "shareable": disk.shareable,
        "chain": [
            {
                "path": layer.path,
                "pool": layer.pool or None,
                "format": layer.header.format if layer.header else None,
                "length_bytes": layer.length_bytes,
                "allocated_bytes": layer.allocated_bytes,
                "virtual_bytes": layer.header.virtual_bytes if layer.header else None,
                "problem": layer.problem or None,
            }
            for layer in disk.chain
        ],
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "id": step.id,
        "title": step.title,
        "host": step.host,
        "bytes": step.bytes,
        "method": step.method or None,
        "why_not_faster": [dict(rung) for rung in step.why_not_faster],
    }
