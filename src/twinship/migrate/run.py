"""The effects of a move. Live: volumes, move, source definition. Offline: volumes, carry, check,
define, source definition. The source's definition goes last; its files are never touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from twinship.hypervisor import volumes
from twinship.migrate.observe import Sides, observe
from twinship.migrate.phases import Carry, Define, MarkAway, Move, UndefineSource, Verify
from twinship.migrate.proving import ProveShared
from twinship.migrate.reconcile import reconcile_move
from twinship.migrate.settle import Release
from twinship.migrate.turns import Turns
from twinship.operations.job import Job
from twinship.operations.verb import Decision, Phase, Verdict
from twinship.transfer.nvram import CopyNvram
from twinship.transfer.steps import CreateVolume, Hosts, Recheck, Replan


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateVerb:
    """Moves a VM from one host to another."""

    hosts: Hosts
    replan: Replan
    stall_s: float
    turns: Turns = field(default_factory=Turns)
    kind: str = "migrate"
    schema: int = 1

    def upgraded(self, spec: dict[str, Any]) -> dict[str, Any]:
        """There is no older version."""
        return spec

    def phases(self, spec: dict[str, Any]) -> Sequence[Phase]:
        """The phases for this spec."""
        phases: list[Phase] = [Recheck(spec=spec, replan=self.replan)]
        if spec["shared_files"]:
            phases.append(ProveShared(hosts=self.hosts, spec=spec))
        phases += [
            _volume(self.hosts, spec, layer) for disk in spec["disks"] for layer in disk["layers"]
        ]
        if spec["mode"] == "offline":
            phases.append(Carry(hosts=self.hosts, spec=spec, stall_s=self.stall_s))
            if spec["nvram"]:
                phases.append(
                    CopyNvram(
                        hosts=self.hosts,
                        source_host=spec["source"],
                        source_path=spec["nvram"],
                        target_host=spec["target"],
                        target_path=spec["nvram"],
                    )
                )
            phases.append(Verify(hosts=self.hosts, spec=spec))
            phases.append(Define(hosts=self.hosts, spec=spec))
        else:
            move = Move(hosts=self.hosts, spec=spec, stall_s=self.stall_s, turns=self.turns)
            phases.append(move)
            phases.append(Release(hosts=self.hosts, spec=spec))
            phases.append(Verify(hosts=self.hosts, spec=spec))
        if spec["persistent"] and (spec["stay_defined"] or spec["temporary"]):
            phases.append(MarkAway(hosts=self.hosts, spec=spec))
        elif spec["persistent"]:
            phases.append(UndefineSource(hosts=self.hosts, spec=spec))
        return phases

    def reconcile(self, job: Job) -> Verdict:
        """Looks at both sides and decides; a side that cannot be seen makes it wait."""
        spec = job.spec
        sides: Sides = observe(self.hosts, spec)
        outcomes = job.outcomes()
        verdict = reconcile_move(
            sides.source,
            sides.target,
            live=spec["mode"] != "offline",
            arrived="move" in outcomes or "define" in outcomes,
        )
        leftovers: tuple[str, ...] = ()
        if verdict.decision is Decision.ATTENTION:
            leftovers = tuple(
                f"VM {spec['vm']['name']} on {spec[end]} ({side.value})"
                for end, side in (("source", sides.source), ("target", sides.target))
            )
        return Verdict(
            decision=verdict.decision,
            reason=" ".join(filter(None, (verdict.why, sides.trouble and f"({sides.trouble})"))),
            leftovers=leftovers,
        )

    def result(self, job: Job) -> dict[str, Any]:
        """A migration's result as DESIGN fixes it."""
        spec, outcomes = job.spec, job.outcomes()
        moved = outcomes.get("move") or outcomes.get("carry") or {}
        copied = moved.get("disks", {})
        return {
            "vm": spec["vm"]["name"],
            "source": spec["source"],
            "target": spec["target"],
            "mode": spec["mode"],
            "seconds": moved.get("seconds"),
            "pause_s": moved.get("pause_s"),
            "pause_guest_s": moved.get("pause_guest_s"),
            "bytes_memory": moved.get("bytes_memory", 0),
            "bytes_disk": moved.get("bytes_disk", 0),
            "forecast": spec.get("forecast"),
            "rate": moved.get("rate"),
            "disks": [
                {
                    "target": disk["target"],
                    "path": disk["path"],
                    "method": _method(spec, disk),
                    "bytes_copied": copied.get(disk["target"], 0),
                }
                for disk in spec["disks"]
            ],
            "left_on_source": [layer["path"] for disk in spec["disks"] for layer in disk["layers"]],
            "verified": outcomes.get("verify", {}),
        }


def _method(spec: dict[str, Any], disk: dict[str, Any]) -> str:
    if disk["way"] != "copy":
        return str(disk["way"])
    return "carrier" if spec["mode"] == "offline" else "mirror"


def _volume(hosts: Hosts, spec: dict[str, Any], layer: dict[str, Any]) -> CreateVolume:
    whole_file = spec["mode"] == "offline"
    return CreateVolume(
        hosts=hosts,
        host=spec["target"],
        path=layer["path"],
        volume=volumes.NewVolume(
            pool=layer["pool"],
            name=layer["file"],
            format="raw" if whole_file else layer["format"],
            capacity_bytes=layer["length"] if whole_file else layer["virtual"],
            compat="" if whole_file else layer["compat"],
            cluster_bytes=0 if whole_file else layer["cluster"],
        ),
        name=f"volume:{layer['path']}",
        title=f"create {layer['path']} on {spec['target']}",
    )
