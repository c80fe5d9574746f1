"""The JSON documents others script against, and the errors' exit codes."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.builders import a_move_of, a_usual_host, a_vm, an_operation, move_request, new_ids
from twinship.migrate.plan import plan_migrate
from twinship.model import documents, errors
from twinship.model.errors import TwinshipError
from twinship.model.host import HostRecord, HostStatus
from twinship.model.operation import Event, OperationState
from twinship.model.vm import VmAnswer, VmState

OPERATION_KEYS = [
    "id", "kind", "title", "state", "created", "started", "ended", "user", "resources", "parent",
    "children", "progress", "waiting_for", "leftovers", "result", "error",
]  # fmt: skip
PLAN_KEYS = [
    "kind", "title", "feasible", "checks", "steps", "bytes", "estimate_s", "forecast", "domain_xml",
    "diff", "manifest",
]  # fmt: skip


def test_an_operation_has_every_key_and_null_for_what_is_missing() -> None:
    document = documents.operation_document(an_operation())

    assert list(document) == OPERATION_KEYS
    assert document["created"] == "2025-01-02T03:04:05.000Z"
    assert document["started"] is document["result"] is document["error"] is None
    assert document["progress"] == {
        "phase": "", "percent": None, "bytes_done": 0, "bytes_total": 0, "rate": 0, "eta_s": None,
    }  # fmt: skip


def test_an_operations_owner_fence_and_spec_are_nobodys_business() -> None:
    text = json.dumps(documents.operation_document(an_operation(owner="boot:7:7", spec={"s": 1})))

    assert "boot:7:7" not in text
    assert "spec" not in text


def test_an_error_in_an_operation_has_its_four_parts() -> None:
    op = an_operation(
        state=OperationState.FAILED,
        error={"kind": "Conflict", "code": "X", "message": "m", "cause": None},
    )

    assert documents.operation_document(op)["error"] == {
        "code": "X", "message": "m", "cause": None, "hint": None,
    }  # fmt: skip


def test_a_plan_has_every_key() -> None:
    vm = a_vm().with_disk().running()
    document = documents.plan_document(plan_migrate(a_move_of(vm), move_request(), new_ids()))

    assert list(document) == PLAN_KEYS
    assert list(document["checks"][0]) == [
        "code", "severity", "message", "hint", "object", "fix", "fixed",
    ]  # fmt: skip
    assert document["checks"][0]["object"] is None
    assert list(document["steps"][0]) == [
        *("id", "title", "host", "bytes"),
        *("method", "why_not_faster"),
    ]
    assert document["forecast"]["verdict"] == "maybe"
    assert list(document["domain_xml"][0]) == ["name", "host", "xml"]


def test_a_dead_host_is_named_beside_the_vms_of_the_living() -> None:
    alive = VmAnswer(host="kvm01", vms=(a_vm().facts().vm,))
    dead = VmAnswer(host="kvm02", error="no route to host")
    document = documents.vms_document((alive, dead))

    assert [vm["name"] for vm in document["items"]] == ["web"]
    assert document["next"] is None
    assert document["unreachable"] == [{"host": "kvm02", "error": "no route to host", "hint": None}]


def test_a_vm_shows_its_chain_and_none_of_its_secrets() -> None:
    vm = (
        a_vm()
        .with_disk(backing=("/base",), problem="gone", problem_code="BACKING_MISSING")
        .with_cdrom()
        .with_device("<graphics type='vnc' passwd='hunter2'/>")
    )
    document = documents.vm_facts_document(vm.facts())

    first, second = document["disks"]
    assert [layer["problem"] for layer in first["chain"]] == [None, "gone"]
    assert first["chain"][1]["format"] is None
    assert second["path"] is None
    assert "hunter2" not in json.dumps(document)


def test_a_host_that_does_not_answer_has_null_facts() -> None:
    record = HostRecord(name="kvm01", uri="qemu:///system")
    dead = documents.host_document(HostStatus(record=record, reachable=False, error="no"))
    living = documents.host_document(
        HostStatus(record=record, reachable=True, facts=a_usual_host().facts())
    )

    assert dead["facts"] is None
    assert dead["address"] is None
    assert living["facts"]["libvirt_version"] == "9.0.0"
    json.dumps(living)


def test_times_are_written_in_utc_to_the_millisecond() -> None:
    summer = datetime(2025, 7, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))

    assert documents.stamp(summer) == "2025-07-01T10:00:00.123Z"
    assert documents.stamp(None) is None


def test_a_line_of_history_has_its_phase_or_null() -> None:
    event = Event(seq=1, at=datetime(2025, 1, 1, tzinfo=UTC), kind="running", phase="")

    assert documents.event_document(event)["phase"] is None


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.TwinshipError, 1),
        (errors.UsageError, 2),
        (errors.AmbiguousName, 2),
        (errors.NotFound, 3),
        (errors.NotAllowed, 4),
        (errors.CheckBlocked, 5),
        (errors.Conflict, 6),
        (errors.Busy, 6),
        (errors.StillRunning, 8),
        (errors.NeedsAttention, 9),
        (errors.Cancelled, 130),
        (errors.HypervisorError, 1),
        (errors.HostUnreachable, 1),
        (errors.Gone, 3),
    ],
)
def test_every_error_has_the_exit_code_of_the_contract(
    kind: type[TwinshipError], code: int
) -> None:
    error = kind("what happened", cause="why")

    assert error.exit_code == code
    assert documents.error_document(error)["error"] == {
        "code": kind.default_code, "message": "what happened", "cause": "why", "hint": None,
    }  # fmt: skip


def test_codes_of_errors_are_their_own() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, TwinshipError)
    ]

    assert len({kind.default_code for kind in kinds}) == len(kinds)


def test_only_what_has_a_process_is_active() -> None:
    active = {state for state in VmState if state.active}

    assert active == {
        VmState.RUNNING,
        VmState.PAUSED,
        VmState.SHUTTING_DOWN,
        VmState.SUSPENDED,
    }


def test_what_a_vm_is_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        a_vm().facts().vm.name = "other"  # type: ignore[misc]
