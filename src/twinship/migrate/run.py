"""The effects of a move, after what is needed on the target before: bases compared, secrets.

Live: what the disks stand on is carried, then volumes, move, source definition. Offline: volumes,
carry, firmware variables, TPM, check, define, source definition. The source's definition goes last;
its files are never touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from twinship.config import LINK_WAITS_S
from twinship.domxml.secrets import SecretRef
from twinship.hypervisor import volumes
from twinship.migrate.carrying import Carry, CheckBases, Verify, VerifyMirrored, carried_files
from twinship.migrate.observe import at_rest
from twinship.migrate.phases import (
    Define,
    MarkAway,
    Move,
    UndefineSource,
    defined_by_us,
    mirrored_volume,
)
from twinship.migrate.proving import ProveShared
from twinship.migrate.reconcile import Side, reconcile_move
from twinship.migrate.settle import Release
from twinship.migrate.spec import SCHEMA, files_of, upgraded
from twinship.migrate.steps import secret_name
from twinship.migrate.turns import Turns
from twinship.operations.job import Job
from twinship.operations.verb import Decision, Phase, Verdict
from twinship.transfer.nvram import CopyNvram
from twinship.transfer.secrets import CopySecret
from twinship.transfer.steps import CreateVolume, Hosts, Recheck, Replan
from twinship.transfer.tpm import CopyTpm


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateVerb:
    """Moves a VM from one host to another."""

    hosts: Hosts
    replan: Replan
    stall_s: float
    turns: Turns = field(default_factory=Turns)
    waits_s: Sequence[float] = LINK_WAITS_S
    kind: str = "migrate"
    schema: int = SCHEMA

    def upgraded(self, spec: dict[str, Any]) -> dict[str, Any]:
        """As :func:`twinship.migrate.spec.upgraded`."""
        return upgraded(spec)

    def phases(self, spec: dict[str, Any]) -> Sequence[Phase]:
        """The phases for this spec."""
        hosts = self.hosts
        phases: list[Phase] = [Recheck(spec=spec, replan=self.replan)]
        if spec["shared_files"]:
            phases.append(ProveShared(hosts=hosts, spec=spec))
        if spec["bases"]:
            phases.append(CheckBases(hosts=hosts, spec=spec))
        phases += [_secret(hosts, spec, secret) for secret in spec["secrets"]]
        phases += self._offline(spec) if spec["mode"] == "offline" else self._live(spec)
        if spec["persistent"] and (spec["stay_defined"] or spec["temporary"]):
            phases.append(MarkAway(hosts=hosts, spec=spec))
        elif spec["persistent"]:
            phases.append(UndefineSource(hosts=hosts, spec=spec))
        return phases

    def _offline(self, spec: dict[str, Any]) -> Iterator[Phase]:
        hosts = self.hosts
        yield from (_whole(hosts, spec, file) for file in carried_files(spec))
        yield Carry(hosts=hosts, spec=spec, stall_s=self.stall_s, waits_s=self.waits_s)
        if spec["nvram"]:
            yield CopyNvram(
                hosts=hosts,
                source_host=spec["source"],
                source_path=spec["nvram"],
                target_host=spec["target"],
                target_path=spec["nvram"],
            )
        if spec["tpm"]:
            yield CopyTpm(
                hosts=hosts,
                source_host=spec["source"],
                source_directory=spec["tpm"],
                target_host=spec["target"],
                target_directory=spec["tpm"],
            )
        yield Verify(hosts=hosts, spec=spec)
        yield Define(hosts=hosts, spec=spec)

    def _live(self, spec: dict[str, Any]) -> Iterator[Phase]:
        hosts = self.hosts
        if spec["along"]:
            yield from (_whole(hosts, spec, file) for file in spec["along"])
            title = "carry what the disks stand on"
            yield Carry(
                hosts=hosts, spec=spec, stall_s=self.stall_s, waits_s=self.waits_s, title=title
            )
            yield Verify(hosts=hosts, spec=spec, name="verify-carried")
        for disk in spec["disks"]:
            yield from (
                _volume(hosts, spec, layer, mirrored_volume(layer)) for layer in disk["layers"]
            )
        yield Move(
            hosts=hosts,
            spec=spec,
            stall_s=self.stall_s,
            turns=self.turns,
            waits_s=self.waits_s,
        )
        yield Release(hosts=hosts, spec=spec)
        yield VerifyMirrored(hosts=hosts, spec=spec)

    def reconcile(self, job: Job) -> Verdict:
        """Looks at both sides and decides; a side that cannot be seen makes it wait."""
        spec = job.spec
        sides = at_rest(job.clock, self.hosts, spec)
        if spec["mode"] == "offline" and sides.target is Side.OFF and not defined_by_us(job):
            sides = replace(sides, target=Side.ABSENT)  # somebody else's, and of no meaning here
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
        copied, noted = moved.get("disks", {}), job.notes("move")
        before = outcomes.get("carry", {}).get("bytes_along", 0) if "move" in outcomes else 0
        return {
            "vm": spec["vm"]["name"],
            "source": spec["source"],
            "target": spec["target"],
            "mode": spec["mode"],
            "post_copy": noted.get("post_copy", False),
            "recoveries": noted.get("recoveries", 0),
            "seconds": moved.get("seconds"),
            "pause_s": moved.get("pause_s"),
            "pause_guest_s": moved.get("pause_guest_s"),
            "bytes_memory": moved.get("bytes_memory", 0),
            "bytes_disk": moved.get("bytes_disk", 0) + before,
            "forecast": spec.get("forecast"),
            "rate": moved.get("rate"),
            "disks": [
                {
                    "target": disk["target"],
                    "path": disk["there"],
                    "method": _method(spec, disk),
                    "bytes_copied": copied.get(disk["target"], 0),
                }
                for disk in spec["disks"]
            ],
            "left_on_source": [file["path"] for file in files_of(spec)],
            "verified": outcomes.get("verify", {}),
        }


def _method(spec: dict[str, Any], disk: dict[str, Any]) -> str:
    if disk["way"] == "shared":
        return "shared"
    if spec["mode"] == "offline":
        return "carrier"
    return "increment" if disk["way"] == "increment" else "mirror"


def _secret(hosts: Hosts, spec: dict[str, Any], secret: dict[str, Any]) -> CopySecret:
    ref = SecretRef(**secret)
    return CopySecret(
        hosts=hosts,
        source_host=spec["source"],
        target_host=spec["target"],
        ref=ref,
        name=f"secret:{secret_name(secret)}",
        title=f"copy the secret of {ref.what}",
    )


def _whole(hosts: Hosts, spec: dict[str, Any], file: dict[str, Any]) -> CreateVolume:
    """The volume of a file that is carried as it is, whatever is in it."""
    new = volumes.NewVolume(
        pool=file["pool"], name=file["file"], format="raw", capacity_bytes=file["length"]
    )
    return _volume(hosts, spec, file, new)


def _volume(
    hosts: Hosts, spec: dict[str, Any], file: dict[str, Any], new: volumes.NewVolume
) -> CreateVolume:
    return CreateVolume(
        hosts=hosts,
        host=spec["target"],
        path=file["there"],
        volume=new,
        name=f"volume:{file['there']}",
        title=f"create {file['there']} on {spec['target']}",
    )
