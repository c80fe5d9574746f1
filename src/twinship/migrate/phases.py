"""The phases of a move, in the order they are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twinship.domxml.carrier import Carrier
from twinship.hypervisor import vms, volumes
from twinship.inventory.lineage import carried
from twinship.migrate.conduct import move_live
from twinship.migrate.observe import observe
from twinship.migrate.plan import definition, marked_away, rewrites_of
from twinship.migrate.reconcile import Side, reconcile_move
from twinship.migrate.settle import act
from twinship.migrate.turns import Turns, let_go
from twinship.model.errors import TwinshipError
from twinship.operations.job import Job
from twinship.operations.verb import Decision
from twinship.transfer.carrier import FileCopy, carry_across, end_carriers
from twinship.transfer.steps import Hosts, explained
from twinship.transfer.tail import copy_tail
from twinship.transfer.verify import End, same_content, same_shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """The live (or non-live) move itself."""

    hosts: Hosts
    spec: dict[str, Any]
    stall_s: float
    turns: Turns
    name: str = "move"
    title: str = "move the VM"

    def do(self, job: Job) -> dict[str, Any]:
        """Moves; after an interruption that the target survived, only tidies up.

        Raises ``VM_CHANGED`` when the VM is neither as it was before nor on the target.
        """
        spec = self.spec
        source = self.hosts.connection(spec["source"])
        target = self.hosts.connection(spec["target"])
        sides = observe(self.hosts, spec)
        if sides.source is Side.SERVING and sides.target is Side.ABSENT:
            job.note(self.name, {"target_was_absent": True})
            try:
                arrival = move_live(
                    job, source, target, spec, stall_s=self.stall_s, turns=self.turns
                ).as_dict()
            except TwinshipError as error:
                copied = [disk["path"] for disk in spec["disks"] if disk["way"] == "copy"]
                raise explained(error, target, copied[0]) if copied else error from error
        else:
            verdict = reconcile_move(sides.source, sides.target, live=True, arrived=False)
            if verdict.decision is not Decision.FORWARD:
                raise TwinshipError(
                    f"VM {spec['vm']['name']} did not stay as it was",
                    code="VM_CHANGED",
                    cause=f"source: {sides.source.value}, target: {sides.target.value}",
                )
            arrival = {"seconds": None, "pause_s": None, "pause_guest_s": None}
            act(job, self.hosts, spec, self.name)
        job.no_way_back()
        copied_bytes = {
            disk["target"]: _allocated(self.hosts, spec["target"], disk["path"])
            for disk in spec["disks"]
            if disk["way"] == "copy"
        }
        return {**arrival, "disks": copied_bytes, "bytes_disk": sum(copied_bytes.values())}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Looked at by :meth:`do`, which may have to end a half that stands still."""
        return None

    def undo(self, job: Job) -> None:
        """Leaves exactly the source, running as before, and moving as fast as before.

        Raises ``VM_CHANGED`` if the target turns out to have the VM: nothing more may be undone.
        """
        if act(job, self.hosts, self.spec, self.name) is not Decision.BACK:
            raise TwinshipError(
                f"VM {self.spec['vm']['name']} cannot be brought back to {self.spec['source']}",
                code="VM_CHANGED",
            )
        let_go(job, self.hosts.connection(self.spec["source"]), self.spec["vm"]["uuid"])

    def leftover(self) -> str:
        """A half VM on the target."""
        return f"perhaps a stopped half of VM {self.spec['vm']['name']} on {self.spec['target']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Carry:
    """Carries the files of a shut-off VM, all at once, byte for byte."""

    hosts: Hosts
    spec: dict[str, Any]
    stall_s: float
    name: str = "carry"
    title: str = "carry the disks"

    def do(self, job: Job) -> dict[str, Any]:
        """Raises what the carrier raises; the source's files are only read."""
        spec = self.spec
        source = self.hosts.connection(spec["source"])
        target = self.hosts.connection(spec["target"])
        layers = [layer for disk in spec["disks"] for layer in disk["layers"]]
        began = job.clock.monotonic()
        try:
            carry_across(
                job,
                source,
                target,
                Carrier(**spec["carrier"], **spec["machine"]),
                [
                    FileCopy(
                        source=layer["path"],
                        destination=layer["path"],
                        length_bytes=layer["length"],
                    )
                    for layer in layers
                ],
                uri=spec["uri"],
                rate=spec["rate"],
                stall_s=self.stall_s,
            )
            for layer in layers:
                copy_tail(source, layer["path"], target, layer["path"], layer["length"])
        except TwinshipError as error:
            raise explained(error, target, layers[0]["path"]) if layers else error from error
        sizes = {
            disk["target"]: sum(
                _allocated(self.hosts, spec["target"], layer["path"]) for layer in disk["layers"]
            )
            for disk in spec["disks"]
        }
        return {
            "seconds": round(job.clock.monotonic() - began, 3),
            "bytes_disk": sum(sizes.values()),
            "disks": sizes,
        }

    def observe(self, job: Job) -> dict[str, Any] | None:
        """How far a carrier got is not known once it is gone: the files are carried again."""
        return None

    def undo(self, job: Job) -> None:
        """Ends the carriers on both hosts."""
        for host in (self.spec["source"], self.spec["target"]):
            end_carriers(self.spec["carrier"]["uuid"], self.hosts.connection(host))

    def leftover(self) -> str:
        """The carriers."""
        name = self.spec["carrier"]["name"]
        return f"carrier {name} on {self.spec['source']} or {self.spec['target']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """Size and format of every copy; offline with ``--verify`` also the content of both ends."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "verify"
    title: str = "check the copies"

    def do(self, job: Job) -> dict[str, Any]:
        """Raises ``COPY_DIFFERS``."""
        spec = self.spec
        offline = spec["mode"] == "offline"
        target = self.hosts.connection(spec["target"])
        digests = {}
        for disk in spec["disks"]:
            for layer in disk["layers"]:
                copy = End(connection=target, path=layer["path"])
                same_shape(
                    copy,
                    format=layer["format"],
                    length_bytes=layer["length"] if offline else None,
                    virtual_bytes=layer["virtual"],
                )
                if offline and spec["verify"]:
                    origin = End(
                        connection=self.hosts.connection(spec["source"]), path=layer["path"]
                    )
                    digests[layer["path"]] = same_content(job, origin, copy, layer["length"])
        return {"digests": digests}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Read anew each time."""
        return None

    def undo(self, job: Job) -> None:
        """Nothing to take back."""

    def leftover(self) -> str:
        """Nothing."""
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Define:
    """Defines the VM on the target; from then on the move only goes forward."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "define"
    title: str = "define the VM on the target"

    def do(self, job: Job) -> dict[str, Any]:
        """Defines it unless it is there."""
        uuid = self.spec["vm"]["uuid"]
        target = self.hosts.connection(self.spec["target"])
        if vms.state(target, uuid) is None:
            job.raise_if_cancelled()
            source = self.hosts.connection(self.spec["source"])
            text = definition(vms.inactive_xml(source, uuid), rewrites_of(self.spec))
            vms.define(target, carried(target, text))
        job.no_way_back()
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Whether the target has the VM."""
        found = vms.state(self.hosts.connection(self.spec["target"]), self.spec["vm"]["uuid"])
        return {} if found is not None else None

    def undo(self, job: Job) -> None:
        """Takes the definition away again, if the source still has the VM."""
        uuid = self.spec["vm"]["uuid"]
        if vms.state(self.hosts.connection(self.spec["source"]), uuid) is not None:
            vms.undefine(self.hosts.connection(self.spec["target"]), uuid)

    def leftover(self) -> str:
        """A second definition."""
        return f"a definition of VM {self.spec['vm']['name']} on {self.spec['target']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UndefineSource:
    """Removes the definition at the source, last; its disk files stay where they are."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "undefine"
    title: str = "remove the definition at the source"

    def do(self, job: Job) -> dict[str, Any]:
        """Refuses to touch a source that runs, or whose VM the target does not have."""
        source = self.hosts.connection(self.spec["source"])
        uuid = self.spec["vm"]["uuid"]
        job.no_way_back()
        found = vms.state(source, uuid)
        if found is not None and found[0].active:
            raise TwinshipError(
                f"VM {self.spec['vm']['name']} runs on {source.name} again", code="SOURCE_RUNS"
            )
        _refuse_if_target_lost(self.hosts, self.spec)
        return {"undefined": vms.undefine(source, uuid)}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Whether the source still has the VM."""
        found = vms.state(self.hosts.connection(self.spec["source"]), self.spec["vm"]["uuid"])
        return {"undefined": True} if found is None else None

    def undo(self, job: Job) -> None:
        """Never asked for: before this phase the target has the VM."""

    def leftover(self) -> str:
        """A stale definition."""
        return f"the definition of VM {self.spec['vm']['name']} on {self.spec['source']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkAway:
    """Notes in the definition that stays where the VM is, so that we refuse to start it here."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "mark"
    title: str = "note at the source that the VM is away"

    def do(self, job: Job) -> dict[str, Any]:
        """Writes the note."""
        source = self.hosts.connection(self.spec["source"])
        uuid = self.spec["vm"]["uuid"]
        job.no_way_back()
        _refuse_if_target_lost(self.hosts, self.spec)
        at = job.clock.now().isoformat(timespec="seconds")
        vms.define(source, marked_away(vms.inactive_xml(source, uuid), self.spec["target"], at))
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Writing the note twice is harmless."""
        return None

    def undo(self, job: Job) -> None:
        """Takes the note away."""
        source = self.hosts.connection(self.spec["source"])
        vms.define(source, definition(vms.inactive_xml(source, self.spec["vm"]["uuid"])))

    def leftover(self) -> str:
        """The note."""
        return f"a note in the definition of {self.spec['vm']['name']} on {self.spec['source']}"


def _refuse_if_target_lost(hosts: Hosts, spec: dict[str, Any]) -> None:
    """The last look before the source gives the VM up. Raises ``TARGET_LOST``."""
    target = hosts.connection(spec["target"])
    if vms.state(target, spec["vm"]["uuid"]) is None:
        raise TwinshipError(
            f"VM {spec['vm']['name']} is not on {target.name}: {spec['source']} keeps it",
            code="TARGET_LOST",
        )


def _allocated(hosts: Hosts, host: str, path: str) -> int:
    found = volumes.find(hosts.connection(host), path)
    return found.allocated_bytes if found is not None else 0
