"""The effects of a clone: volumes, copies, check, define, in this order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinship.clone.copying import CopyDisks, VerifyDisks, volume_phase
from twinship.clone.finishing import Define, GoBack, Grow, Guard, Reserve, Start, seed_phases
from twinship.clone.reconcile import reconcile_clone
from twinship.config import LINK_WAITS_S
from twinship.hypervisor import vms
from twinship.operations.job import Job
from twinship.operations.verb import Phase, Verdict
from twinship.transfer.hold import GiveBack, Held, HoldDisks
from twinship.transfer.nvram import CopyNvram
from twinship.transfer.steps import Hosts, Recheck, Replan
from twinship.transfer.tpm import CopyTpm


def held_of(spec: dict[str, Any]) -> Held | None:
    """What is held still of a running source; None for one that is shut off."""
    hold = spec.get("hold")
    if hold is None:
        return None
    return Held(
        host=spec["source"]["host"],
        uuid=spec["source"]["uuid"],
        name=spec["source"]["name"],
        disks=hold["disks"],
        others=tuple(hold["others"]),
        carrier=hold["carrier"],
        machine=spec["machine"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneVerb:
    """Clones a VM, on its own host or to another."""

    hosts: Hosts
    replan: Replan
    stall_s: float
    waits_s: Sequence[float] = LINK_WAITS_S
    kind: str = "clone"
    schema: int = 1

    def upgraded(self, spec: dict[str, Any]) -> dict[str, Any]:
        """There is no older version."""
        return spec

    def phases(self, spec: dict[str, Any]) -> Sequence[Phase]:
        """The phases for this spec."""
        # One of many stands on what its parent has looked at.
        child = spec.get("child", False)
        phases: list[Phase] = [] if child else [Recheck(spec=spec, replan=self.replan)]
        held = held_of(spec)
        if held is not None:
            freeze = spec["hold"]["freeze"]
            phases.append(
                HoldDisks(hosts=self.hosts, held=held, freeze=freeze, stall_s=self.stall_s)
            )
        phases += [volume_phase(self.hosts, spec, disk) for disk in spec["disks"]]
        phases.append(
            CopyDisks(hosts=self.hosts, spec=spec, stall_s=self.stall_s, waits_s=self.waits_s)
        )
        if spec["nvram"] and spec["nvram"]["copy"]:
            phases.append(
                CopyNvram(
                    hosts=self.hosts,
                    source_host=spec["source"]["host"],
                    source_path=spec["nvram"]["source"],
                    target_host=spec["host"],
                    target_path=spec["nvram"]["path"],
                )
            )
        if tpm := spec["tpm"]:
            phases.append(
                CopyTpm(
                    hosts=self.hosts,
                    source_host=spec["source"]["host"],
                    source_directory=tpm["source"],
                    target_host=spec["host"],
                    target_directory=tpm["path"],
                )
            )
        phases.append(VerifyDisks(hosts=self.hosts, spec=spec))
        if any(disk["back_to"] for disk in spec["disks"]):
            phases.append(GoBack(hosts=self.hosts, spec=spec))
        if spec["grow"]:
            phases.append(Grow(hosts=self.hosts, spec=spec))
        if spec["seed"]:
            phases += seed_phases(self.hosts, spec)
        if spec["reservation"]:
            phases.append(Reserve(hosts=self.hosts, spec=spec))
        if held is not None:
            phases.append(GiveBack(hosts=self.hosts, held=held, stall_s=self.stall_s))
        if spec["guard"]:
            phases.append(Guard(hosts=self.hosts, spec=spec))
        phases.append(Define(hosts=self.hosts, spec=spec))
        if spec["start"]:
            phases.append(Start(hosts=self.hosts, spec=spec))
        return phases

    def reconcile(self, job: Job) -> Verdict:
        """Looks whether the clone is defined. Raises HostUnreachable when it cannot be seen."""
        connection = self.hosts.connection(job.spec["host"])
        return reconcile_clone(defined=vms.state(connection, job.spec["uuid"]) is not None)

    def result(self, job: Job) -> dict[str, Any]:
        """``clones[]`` as DESIGN fixes it, and whether the clone was started."""
        spec, outcomes = job.spec, job.outcomes()
        clone = {
            "name": spec["name"],
            "uuid": spec["uuid"],
            "host": spec["host"],
            "disks": [_made(disk, outcomes) for disk in spec["disks"]],
            "started": outcomes.get("start", {}).get("started", False),
            "start_error": outcomes.get("start", {}).get("error"),
            "restarts": outcomes["copy"].get("restarts", 0),
        }
        return {"clones": [clone], "verified": outcomes["verify"], "source": source_felt(outcomes)}


def source_felt(outcomes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """What a running source felt of it; None for one that was shut off."""
    if "hold" not in outcomes:
        return None
    hold = outcomes["hold"]
    return {
        "frozen": hold["frozen"],
        "pause_s": hold["seconds"],
        "pause_guest_s": outcomes["give-back"]["pause_guest_s"],
    }


def _made(disk: dict[str, Any], outcomes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    volume, copy = outcomes[f"volume:{disk['target']}"], outcomes["copy"]
    why = list(disk["why_not_faster"])
    method = disk["method"]
    if method == "reflink" and not volume["reflinked"]:
        method = "carrier"
        reason = volume.get("refused", "it was interrupted")
        why.append({"method": "reflink", "code": "REFUSED", "reason": reason})
    return {
        "target": disk["target"],
        "path": disk["path"],
        "method": method,
        "bytes_copied": copy["disks"].get(disk["target"], 0),
        "seconds": copy["seconds"] if disk["target"] in copy["disks"] else 0.0,
        "why_not_faster": why,
    }
