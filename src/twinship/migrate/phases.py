"""The phases of a move, in the order they are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twinship.hypervisor import records, vms, volumes
from twinship.inventory.lineage import carried
from twinship.migrate.carrying import allocated
from twinship.migrate.conduct import move_live
from twinship.migrate.observe import observe
from twinship.migrate.places import places_of
from twinship.migrate.plan import definition, marked_away, rewrites_of
from twinship.migrate.reconcile import Side, reconcile_move
from twinship.migrate.settle import act
from twinship.migrate.turns import Turns, let_go
from twinship.model.errors import Conflict, HostUnreachable, TwinshipError
from twinship.operations.job import Job
from twinship.operations.verb import Decision
from twinship.transfer.broken_link import until_it_holds
from twinship.transfer.steps import Hosts, explained_on


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """The live (or non-live) move itself."""

    hosts: Hosts
    spec: dict[str, Any]
    stall_s: float
    turns: Turns
    waits_s: Sequence[float]
    name: str = "move"
    title: str = "move the VM"

    def do(self, job: Job) -> dict[str, Any]:
        """Moves; after an interruption that the target survived, only tidies up.

        A broken link is tried again as long as the source serves and the target has nothing.
        Raises ``VM_CHANGED`` when the VM is neither as it was before nor on the target.
        """
        spec = self.spec
        sides = observe(self.hosts, spec)
        if sides.source is Side.SERVING and sides.target is Side.ABSENT:
            job.note(self.name, {"target_was_absent": True})
            try:
                arrival = until_it_holds(
                    job,
                    self.name,
                    lambda: self._move(job),
                    before_next=lambda: self._begin_anew(job),
                    waits_s=self.waits_s,
                )
            except TwinshipError as error:
                copied = [disk["there"] for disk in spec["disks"] if disk["layers"]]
                if not copied:
                    raise
                raise explained_on(error, self.hosts, spec["target"], copied[0]) from error
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
            disk["target"]: allocated(self.hosts, spec["target"], disk["there"])
            for disk in spec["disks"]
            if disk["layers"]
        }
        return {**arrival, "disks": copied_bytes, "bytes_disk": sum(copied_bytes.values())}

    def _move(self, job: Job) -> dict[str, Any]:
        return move_live(
            job, self.hosts, self.spec, stall_s=self.stall_s, turns=self.turns
        ).as_dict()

    def _begin_anew(self, job: Job) -> None:
        """After a broken attempt: the source serves, the target has nothing but our volumes.

        Raises ``VM_CHANGED`` when that cannot be had.
        """
        spec = self.spec
        decision = act(job, self.hosts, spec, self.name)
        sides = observe(self.hosts, spec)
        if decision is not Decision.BACK or (sides.source, sides.target) != (
            Side.SERVING,
            Side.ABSENT,
        ):
            raise TwinshipError(
                f"VM {spec['vm']['name']} did not stay as it was",
                code="VM_CHANGED",
                cause=f"source: {sides.source.value}, target: {sides.target.value}",
            )
        let_go(job, self.hosts.connection(spec["source"]), spec["vm"]["uuid"])
        if not any(disk["way"] == "increment" for disk in spec["disks"]):
            return
        # QEMU zeroes what it mirrors whole before it begins; of a topmost file alone it copies
        # what that holds, and what an attempt has left there would stay.
        target = self.hosts.connection(spec["target"])
        for disk in spec["disks"]:
            for layer in disk["layers"]:
                volumes.delete(target, layer["there"])
                volumes.create(target, mirrored_volume(layer))

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
class Define:
    """Defines the VM on the target with its records; from then on the move only goes forward."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "define"
    title: str = "define the VM on the target"

    def do(self, job: Job) -> dict[str, Any]:
        """Defines it unless it did, and gives it the records that it lacks.

        A definition whose records libvirt refuses is taken away again before that is raised.
        Raises :class:`Conflict` (``VM_EXISTS``) for one that somebody else has put there.
        """
        uuid = self.spec["vm"]["uuid"]
        target = self.hosts.connection(self.spec["target"])
        source = self.hosts.connection(self.spec["source"])
        places = places_of(rewrites_of(self.spec))
        if vms.state(target, uuid) is None:
            job.raise_if_cancelled()
            job.note(self.name, {"was_absent": True})
            text = definition(vms.inactive_xml(source, uuid), rewrites_of(self.spec))
            vms.define(target, carried(target, text, places.there))
        elif not defined_by_us(job):
            raise Conflict(
                f"{target.name} has a definition of {self.spec['vm']['name']} already",
                code="VM_EXISTS",
                hint="twinship doctor says which of the two is true",
            )
        if any(self.spec["records"]):
            try:
                records.put(target, uuid, records.read(source, uuid).with_files_at(places.there))
            except HostUnreachable:
                raise
            except TwinshipError:
                found = vms.state(target, uuid)
                if found is not None and not found[0].active:
                    self.undo(job)
                raise
        job.no_way_back()
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Whether the target has the VM from us, with all its records."""
        uuid, target = self.spec["vm"]["uuid"], self.hosts.connection(self.spec["target"])
        if not defined_by_us(job) or vms.state(target, uuid) is None:
            return None
        return {} if list(records.counted(target, uuid)) == self.spec["records"] else None

    def undo(self, job: Job) -> None:
        """Takes our definition away again, if the source still has the VM."""
        uuid = self.spec["vm"]["uuid"]
        if not defined_by_us(job):
            return
        if vms.state(self.hosts.connection(self.spec["source"]), uuid) is not None:
            target = self.hosts.connection(self.spec["target"])
            vms.undefine(target, uuid, with_records=any(self.spec["records"]))

    def leftover(self) -> str:
        """A second definition."""
        return f"a definition of VM {self.spec['vm']['name']} on {self.spec['target']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UndefineSource:
    """Removes the definition at the source, last, with the records that the target has now.

    Its disk files stay where they are.
    """

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
        gone = vms.undefine(source, uuid, with_records=any(self.spec["records"]))
        return {"undefined": gone}

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


def defined_by_us(job: Job) -> bool:
    """Whether the target had no definition of the VM before this move gave it one."""
    return bool(job.notes("define").get("was_absent"))


def _refuse_if_target_lost(hosts: Hosts, spec: dict[str, Any]) -> None:
    """The last look before the source gives the VM up. Raises ``TARGET_LOST``."""
    target = hosts.connection(spec["target"])
    if vms.state(target, spec["vm"]["uuid"]) is None:
        raise TwinshipError(
            f"VM {spec['vm']['name']} is not on {target.name}: {spec['source']} keeps it",
            code="TARGET_LOST",
        )


def mirrored_volume(layer: dict[str, Any]) -> volumes.NewVolume:
    """The volume that a running VM's disk is mirrored into: empty, thin, upon its base if any."""
    return volumes.NewVolume(
        pool=layer["pool"],
        name=layer["file"],
        format=layer["format"],
        capacity_bytes=layer["virtual"],
        compat=layer["compat"],
        cluster_bytes=layer["cluster"],
        backing_path=layer["backing"],
        backing_format=layer["backing_format"],
    )
