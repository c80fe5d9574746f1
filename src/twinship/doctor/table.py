"""What is nobody's: a table of small functions over the census; pure.

Certain is only what follows from the journal and from every host that could have a say.
"""

from __future__ import annotations

from collections.abc import Iterator

from twinship.doctor import stray
from twinship.doctor.census import Census, Seen
from twinship.doctor.rows import TABLE, row, run
from twinship.domxml.resources import Owner, Reach, collisions
from twinship.migrate.reconcile import Side
from twinship.model.diagnosis import Ailment

__all__ = ["TABLE", "run", "stray"]
_MOVING = (Side.HELD, Side.HALF)


@row("VM_TWICE")
def vms_that_are_twice(census: Census) -> Iterator[Ailment]:
    """One UUID on several hosts: started on both, its disk would be destroyed.

    A definition marked away belongs to ``--stay-defined``. Certain is one case: the last move we
    know of ended on the host where the VM runs now, and the other host has it shut off.
    """
    for copies in _by_uuid(census):
        if len(copies) < 2 or any(copy.side in _MOVING or copy.has_job for copy in copies):
            continue
        if _only_started_there(copies):
            continue
        serving = [copy for copy in copies if copy.side is Side.SERVING]
        stale = [copy for copy in copies if copy.side is Side.OFF]
        move = census.journal.moves.get(copies[0].uuid)
        names = " and ".join(sorted(copy.host for copy in copies))
        known = (
            move is not None
            and not move.stay_defined
            and len(copies) == 2
            and [copy.host for copy in serving if copy.persistent] == [move.target]
            and [copy.host for copy in stale] == [move.source]
        )
        message = f"VM {copies[0].name} is on {names}"
        if len(serving) > 1:
            message = f"VM {copies[0].name} RUNS TWICE, on {names}{_one_disk(census, serving)}"
        yield Ailment(
            code="",
            message=message,
            cure=f"undefine it on {stale[0].host}; its disks stay"
            if known
            else "at once: virsh destroy the one that people do not use, then virsh undefine it"
            if len(serving) > 1
            else "find out which one is true, and undefine the other: virsh undefine",
            object=f"vm/{copies[0].name}",
            host=stale[0].host if known else copies[0].host,
            certain=known and not census.unseen,
            facts={"uuid": copies[0].uuid} | ({"serves": serving[0].host} if known else {}),
        )


@row("VM_HELD")
def vms_that_stand_still(census: Census) -> Iterator[Ailment]:
    """A VM that stands still because of a move nobody makes any more.

    Of two copies the one that serves is true, whichever way the move went; a lone one is the
    source, which holds everything, if the journal knows it there.
    """
    for copies in _by_uuid(census):
        held = [copy for copy in copies if copy.side is Side.HELD]
        if not held or any(copy.has_job for copy in copies) or _post_copy(copies):
            continue
        serving = [copy for copy in copies if copy.side is Side.SERVING]
        one_half = len(copies) == 2 and len(held) == 1 and len(serving) == 1
        yield Ailment(
            code="",
            message=f"VM {held[0].name} stands still on {held[0].host}, half moved",
            cure=f"end this half: the VM serves on {serving[0].host}"
            if one_half
            else _which_half(held),
            object=f"vm/{held[0].name}",
            host=held[0].host,
            certain=one_half and not census.unseen,
            facts={"uuid": held[0].uuid} | ({"serves": serving[0].host} if one_half else {}),
        )


@row("POST_COPY_BROKEN")
def memory_in_two_halves(census: Census) -> Iterator[Ailment]:
    """A post-copy move broke off: part of the guest's memory is on each side, and needs both.

    To end either half loses the VM's memory; libvirt (8.5 and later) goes on where it was.
    """
    for copies in _by_uuid(census):
        broken = [copy for copy in copies if copy.reason == "post_copy_failed"]
        if broken:
            names = " and ".join(sorted(copy.host for copy in copies))
            yield Ailment(
                code="",
                message=f"VM {broken[0].name} is half on {names}: its post-copy move broke off",
                cure="end neither; repeat the same virsh migrate with --postcopy-resume"
                if len([copy for copy in copies if copy.side is not Side.OFF]) > 1
                else "the other half is on no host known here: if it is gone for good, so is the "
                "VM's memory; virsh destroy, then start it from its disks",
                object=f"vm/{broken[0].name}",
                host=broken[0].host,
                facts={"uuid": broken[0].uuid},
            )


@row("VM_DEFINED_ELSEWHERE")
def definitions_of_what_runs_elsewhere(census: Census) -> Iterator[Ailment]:
    """A VM runs on one host without a definition, and its only definition is on another.

    `virsh migrate` without `--persistent` leaves it so. Started from that definition it would run
    twice; when it powers off where it runs it is gone from there, so that the definition is needed.
    """
    for copies in _by_uuid(census):
        if len(copies) < 2 or not _only_started_there(copies):
            continue
        here = next(copy for copy in copies if copy.side is Side.SERVING)
        off = next(copy for copy in copies if copy.side is Side.OFF)
        yield Ailment(
            code="",
            message=f"VM {here.name} runs on {here.host} without a definition; {off.host} has it",
            cure=f"never start it on {off.host}; to have it stay on {here.host}: virsh dumpxml "
            f"--security-info there, virsh define the result there, then virsh undefine on "
            f"{off.host}",
            object=f"vm/{here.name}",
            host=off.host,
            facts={"uuid": here.uuid},
        )


@row("MIGRATION_STUCK")
def moves_to_nowhere(census: Census) -> Iterator[Ailment]:
    """A migration job on a VM whose other half no host shows: only begun, or left by a client.

    It may also go to a host that is not known here, or be of this very moment.
    """
    for copies in _by_uuid(census):
        if len(copies) != 1 or copies[0].job not in ("migration out", "migration in"):
            continue
        seen = copies[0]
        way = "out of" if seen.job == "migration out" else "into"
        yield Ailment(
            code="",
            message=f"a migration of VM {seen.name} {way} {seen.host} is under way, and no other "
            "host known here has a part of it",
            cure=f"if nobody makes it: virsh domjobabort {seen.name} on {seen.host}",
            object=f"vm/{seen.name}",
            host=seen.host,
            facts={"uuid": seen.uuid},
        )


@row("DISK_COPY_LEFT")
def disk_copies_without_a_move(census: Census) -> Iterator[Ailment]:
    """A disk is being copied elsewhere by a block job, without a migration or operation of ours.

    A storage migration that was cut off leaves one, and so does anybody's `virsh blockcopy`.
    """
    for copies in _by_uuid(census):
        for seen in copies:
            if not seen.copying or seen.has_job:
                continue
            disks = ", ".join(seen.copying)
            yield Ailment(
                code="",
                message=f"disk {disks} of VM {seen.name} on {seen.host} is being copied, by no "
                "operation of ours",
                cure=f"if nobody makes a copy: virsh blockjob {seen.name} {seen.copying[0]} "
                f"--abort on {seen.host}",
                object=f"vm/{seen.name}",
                host=seen.host,
                facts={"uuid": seen.uuid},
            )


@row("CARRIER_LEFT")
def carriers_of_nobody(census: Census) -> Iterator[Ailment]:
    """A carrier holds nothing of its own; without its operation it only keeps files open."""
    for seen in census.vms:
        if seen.carrier and seen.uuid not in census.journal.carriers:
            yield Ailment(
                code="",
                message=f"carrier {seen.name} on {seen.host} belongs to no operation",
                cure="end it",
                object=f"vm/{seen.name}",
                host=seen.host,
                certain=True,
                facts={"uuid": seen.uuid, "name": seen.name},
            )


@row("VOLUME_LEFT")
def volumes_of_nobody(census: Census) -> Iterator[Ailment]:
    """A file that an operation made, which did not come to its end, and that no VM uses.

    Files that are not in our journal are not ours to judge.
    """
    used = {(seen.host, path) for seen in census.vms for path in seen.paths}
    for made in census.journal.made:
        place = (made.host, made.path)
        if place in census.files and place not in used:
            yield Ailment(
                code="",
                message=f"{made.path} on {made.host} was left by operation {made.operation} "
                f"({made.title})",
                cure="delete it",
                object=f"file/{made.path}",
                host=made.host,
                certain=True,
                facts={"path": made.path, "operation": made.operation},
            )


@row("CLAIM_STALE")
def claims_of_nobody(census: Census) -> Iterator[Ailment]:
    """A claim outlives its operation only if the database was written by something else."""
    for resource, operation in census.journal.stale_claims:
        yield Ailment(
            code="",
            message=f"{resource} is claimed by operation {operation}, which has ended",
            cure="give it back",
            object=f"operation/{operation}",
            certain=True,
            facts={"resource": resource, "operation": operation},
        )


@row("OPERATION_UNSETTLED")
def operations_that_call_for_a_person(census: Census) -> Iterator[Ailment]:
    """An operation nobody could decide; looked at again, it may be clear by now."""
    for op in census.journal.unsettled:
        yield Ailment(
            code="",
            message=f"operation {op.id} ({op.title}) was not undone: {op.waiting_for}",
            cure="look again: it goes on if what is there is clear now",
            object=f"operation/{op.id}",
            certain=True,
            facts={"operation": op.id},
        )


@row("MARK_STALE")
def marks_that_mislead(census: Census) -> Iterator[Ailment]:
    """A definition says that its VM is on another host, which does not have it."""
    there = {(seen.host, seen.uuid) for seen in census.vms}
    seen_hosts = set(census.hosts) - set(census.unseen)
    for seen in census.vms:
        if seen.away in seen_hosts and (seen.away, seen.uuid) not in there:
            yield Ailment(
                code="",
                message=f"VM {seen.name} on {seen.host} is marked as moved to {seen.away}, which "
                "does not have it",
                cure=f"if it is nowhere else: twinship vm start {seen.host}/{seen.name}",
                object=f"vm/{seen.name}",
                host=seen.host,
            )


@row("HOST_UNSEEN")
def hosts_that_do_not_answer(census: Census) -> Iterator[Ailment]:
    """What is on a host that does not answer is not known."""
    for host, why in census.unseen.items():
        yield Ailment(
            code="",
            message=f"host {host} was not seen: {why}",
            cure=f"twinship host check {host}",
            object=f"host/{host}",
            host=host,
        )


def _only_started_there(copies: list[Seen]) -> bool:
    """Whether it runs on one host without a definition and is only defined on the other."""
    kinds = sorted((copy.side, copy.persistent) for copy in copies)
    return kinds == [(Side.OFF, True), (Side.SERVING, False)]


def _post_copy(copies: list[Seen]) -> bool:
    return any(copy.side is Side.HALF for copy in copies)


def _which_half(held: list[Seen]) -> str:
    """What to do about halves of which none serves."""
    if len(held) > 1:
        return "the one it came from holds everything: virsh destroy the other, virsh resume this"
    if held[0].persistent:
        return (
            "if it runs on no host that is not known here, it is whole: virsh resume "
            f"{held[0].name} on {held[0].host}"
        )
    return (
        "a half that was to arrive: if the VM runs where it came from, virsh destroy "
        f"{held[0].name} on {held[0].host}"
    )


def _one_disk(census: Census, serving: list[Seen]) -> str:
    """Says so if both write one disk."""
    network = [{h for h in copy.holds if h.kind == "network disk"} for copy in serving]
    shared = {str(held) for held in set.intersection(*network)}
    hosts = {copy.host for copy in serving}
    paths = frozenset.intersection(*(copy.paths for copy in serving))
    shared |= {
        f"file {twin.path}"
        for twin in census.twins
        if twin.same and twin.path in paths and {twin.host, twin.other} <= hosts
    }
    return f", and writes {', '.join(sorted(shared))} from both" if shared else ""


def _by_uuid(census: Census) -> list[list[Seen]]:
    """The copies of each VM that no operation works on, without those marked away."""
    found: dict[str, list[Seen]] = {}
    there = {(seen.host, seen.uuid) for seen in census.vms}
    for seen in census.vms:
        resting = seen.side is Side.OFF and (seen.away, seen.uuid) in there
        if seen.uuid not in census.journal.held and not seen.carrier and not resting:
            found.setdefault(seen.uuid, []).append(seen)
    return list(found.values())


@row("VM_COLLISION")
def vms_that_hold_the_same(census: Census) -> Iterator[Ailment]:
    """Two VMs with one MAC, generation id or file to write: clones made by hand, mostly.

    A port, a socket or a device that two VMs of a host name is no ailment: they may take turns; a
    clone's plan warns of it (``CLONE_COLLISION``). Which of the two is right only a person knows.
    """
    owners = [
        Owner(host=seen.host, name=seen.name, uuid=seen.uuid, holds=seen.holds)
        for seen in census.vms
        if not seen.carrier
    ]
    for collision in collisions(owners):
        one, other = collision.one, collision.other
        if collision.held.reach is not Reach.ANYWHERE and collision.held.kind != "file":
            continue
        yield Ailment(
            code="",
            message=f"{one.host}/{one.name} and {other.host}/{other.name} hold the same "
            f"{collision.held}",
            cure="change one of the two: virsh edit",
            object=f"vm/{other.name}",
            host=other.host,
            certain=False,
        )
