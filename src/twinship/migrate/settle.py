"""Does on both hosts what the verdict asks for, and looks again until it asks for nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twinship.hypervisor import jobs, vms
from twinship.migrate.halves import go_on
from twinship.migrate.observe import HALF_A_MOMENT, at_rest
from twinship.migrate.reconcile import Deed, Side, reconcile_move
from twinship.model.errors import HostUnreachable, TwinshipError
from twinship.operations.job import Job
from twinship.operations.verb import Decision
from twinship.transfer.steps import Hosts

_PASSING = HALF_A_MOMENT | {(Side.HELD, Side.HELD)}
"""Of two halves that stand still the target may be about to start the VM, asked by a client that is
gone. To end it then could lose what it wrote; libvirt starts or ends it within a moment."""


def act(job: Job, hosts: Hosts, spec: dict[str, Any], phase: str) -> Decision:
    """Brings a live move to rest; which way the last verdict pointed.

    Raises :class:`HostUnreachable` while a side cannot be seen, before it touches anything.
    """
    uuid = spec["vm"]["uuid"]
    decision = Decision.WAIT
    for _ in range(len(Deed) + 1):
        sides = at_rest(job.clock, hosts, spec, _PASSING)
        if Side.UNSEEN in (sides.source, sides.target):
            raise HostUnreachable("a host cannot be seen", cause=sides.trouble)
        verdict = reconcile_move(
            sides.source, sides.target, live=True, arrived="move" in job.outcomes()
        )
        decision = verdict.decision
        if not verdict.deeds:
            break
        job.record("settling", phase, {"why": verdict.why, "deeds": list(verdict.deeds)})
        ours = job.notes("move").get("target_was_absent", False)
        for deed in verdict.deeds:
            if deed in (Deed.END_TARGET, Deed.UNDEFINE_TARGET) and not ours:
                return decision  # it was there before us: somebody else's
            match deed:
                case Deed.STOP_JOB:
                    jobs.abort_job(hosts.connection(spec["source"]), uuid)
                case Deed.END_TARGET:
                    vms.destroy(hosts.connection(spec["target"]), uuid)
                case Deed.UNDEFINE_TARGET:
                    vms.undefine(hosts.connection(spec["target"]), uuid)
                case Deed.RESUME_SOURCE:
                    vms.resume(hosts.connection(spec["source"]), uuid)
                case Deed.JOIN:
                    _join(job, hosts, spec)
                case Deed.END_SOURCE:
                    vms.destroy(hosts.connection(spec["source"]), uuid)
    return decision


def _join(job: Job, hosts: Hosts, spec: dict[str, Any]) -> None:
    """Goes on with a post-copy move, once. Raises :class:`HostUnreachable` if that is to wait."""
    try:
        go_on(job, hosts, spec)
    except TwinshipError as error:
        sides = at_rest(job.clock, hosts, spec)
        if Side.HALF in (sides.source, sides.target):
            raise HostUnreachable(
                "part of the VM's memory is on each host",
                code="POST_COPY_BROKEN",
                cause="part of the VM's memory is on each host, and both are kept: "
                f"{error.cause or error.message}",
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Ends the source's half where libvirt could not be told to (its Confirm was lost)."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "release"
    title: str = "see that the source has let go"

    def do(self, job: Job) -> dict[str, Any]:
        """Raises ``VM_CHANGED`` unless the VM is on the target and not at the source."""
        if act(job, self.hosts, self.spec, self.name) is not Decision.FORWARD:
            raise TwinshipError(
                f"VM {self.spec['vm']['name']} is not where its move ended", code="VM_CHANGED"
            )
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Looked at anew each time."""
        return None

    def undo(self, job: Job) -> None:
        """Never asked for: the VM is on the target."""

    def leftover(self) -> str:
        """A half that stands still."""
        return f"perhaps a stopped half of VM {self.spec['vm']['name']} on {self.spec['source']}"
