"""The effects of start, stop and delete. They go forward only: there is nothing half to undo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twinship.domxml.sealed import sealed_of, without_sealed
from twinship.hypervisor import networks, vms, volumes
from twinship.hypervisor.connection import Connection
from twinship.inventory.guarding import release, release_if_free
from twinship.model.errors import Gone, StillRunning, TwinshipError
from twinship.operations.job import Job
from twinship.operations.verb import Decision, Phase, Verdict
from twinship.transfer.steps import Hosts

POLL_S = 0.2
Effect = Callable[[Hosts, dict[str, Any], Job], dict[str, Any]]


def _start(hosts: Hosts, spec: dict[str, Any], _job: Job) -> dict[str, Any]:
    connection = hosts.connection(spec["host"])
    found = vms.state(connection, spec["uuid"])
    if found is None or not found[0].active:
        release(connection, spec["uuid"])  # the plan has seen that nothing stands on its disks
        _unseal(connection, spec["uuid"])
        vms.start(connection, spec["uuid"])
    return {"vm": spec["name"], "host": spec["host"], "state": "running"}


def _unseal(connection: Connection, uuid: str) -> None:
    """A guest that runs has an identity again. What can be undone stays known, to be cleaned up."""
    text = vms.stored_xml(connection, uuid)
    sealed = sealed_of(text) if "sealed" in text else None
    if sealed is not None and not sealed.undo:
        vms.define(connection, without_sealed(text))


def _stop(hosts: Hosts, spec: dict[str, Any], job: Job) -> dict[str, Any]:
    connection = hosts.connection(spec["host"])
    done = {"vm": spec["name"], "host": spec["host"], "state": "shut_off"}
    found = vms.state(connection, spec["uuid"])
    if found is None or not found[0].active:
        return done
    if spec["force"]:
        vms.destroy(connection, spec["uuid"])
        return done
    vms.shut_down(connection, spec["uuid"])
    deadline = job.clock.monotonic() + spec["timeout_s"]
    while job.clock.monotonic() < deadline:
        job.raise_if_cancelled()
        found = vms.state(connection, spec["uuid"])
        if found is None or not found[0].active:
            return done
        job.clock.wait(POLL_S, job.wake)
    raise StillRunning(
        f"{spec['name']} has not shut down within {spec['timeout_s']:g} s",
        code="GUEST_SILENT",
        cause="the guest was asked and did not follow",
        hint="wait longer (--timeout), or end it as a power cut would: --force",
    )


def _delete(hosts: Hosts, spec: dict[str, Any], _job: Job) -> dict[str, Any]:
    connection = hosts.connection(spec["host"])
    found = vms.state(connection, spec["uuid"])
    if found is not None and found[0].active:
        raise TwinshipError(f"{spec['name']} runs", code="VM_ACTIVE")
    vms.undefine(connection, spec["uuid"], keep_state=not spec.get("delete_state", False))
    if reservation := spec.get("reservation"):
        _release(connection, reservation)
    if base := spec.get("base"):
        release_if_free(connection, base)
    deleted = [path for path in spec["files"] if volumes.delete(connection, path)]
    return {"vm": spec["name"], "host": spec["host"], "deleted": deleted}


def _release(connection: Connection, said: dict[str, Any]) -> None:
    """Gives an address back; a network that has gone has none."""
    try:
        made = networks.Reservation(mac=said["mac"], address=said["address"], name=said["name"])
        networks.release(connection, said["network"], made)
    except Gone:
        return


EFFECTS: dict[str, Effect] = {"start": _start, "stop": _stop, "delete": _delete}


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleVerb:
    """One of :data:`EFFECTS` as a verb of the engine."""

    kind: str
    hosts: Hosts
    schema: int = 1

    def upgraded(self, spec: dict[str, Any]) -> dict[str, Any]:
        """There is no older version."""
        return spec

    def phases(self, spec: dict[str, Any]) -> Sequence[Phase]:
        """The one phase."""
        return (_Only(name=self.kind, hosts=self.hosts, spec=spec),)

    def reconcile(self, job: Job) -> Verdict:
        """An error is final; for an owner that died it is finished: effects look first."""
        error = job.op.error or {}
        if error.get("code") == "OWNER_DIED":
            return Verdict(decision=Decision.FORWARD, reason="it can be finished")
        return Verdict(decision=Decision.BACK, reason="nothing was left half done")

    def result(self, job: Job) -> dict[str, Any]:
        """What the effect returned."""
        return job.outcomes()[self.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Only:
    name: str
    hosts: Hosts
    spec: dict[str, Any]

    @property
    def title(self) -> str:
        return f"{self.name} {self.spec['name']}"

    def do(self, job: Job) -> dict[str, Any]:
        return EFFECTS[self.name](self.hosts, self.spec, job)

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # every effect looks first

    def undo(self, job: Job) -> None:
        """Nothing half is left by any of them."""

    def leftover(self) -> str:
        return ""
