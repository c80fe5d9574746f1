"""What is nobody's: a table of small functions over the census; pure.

Certain is only what follows from the journal and from every host that could have a say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from twinship.doctor.census import Census, Seen
from twinship.domxml.resources import Owner, Reach, collisions
from twinship.migrate.reconcile import Side
from twinship.model.diagnosis import Ailment

Row = Callable[[Census], Iterator[Ailment]]
TABLE: dict[str, Row] = {}


def row(code: str) -> Callable[[Row], Row]:
    """Puts a function into the table."""

    def add(find: Row) -> Row:
        TABLE[code] = find
        return find

    return add


def run(census: Census) -> tuple[Ailment, ...]:
    """All ailments, in the order of the table."""
    found = []
    for code, find in TABLE.items():
        found += [replace(ailment, code=code) for ailment in find(census)]
    return tuple(found)


@row("VM_TWICE")
def vms_that_are_twice(census: Census) -> Iterator[Ailment]:
    """One UUID on several hosts: started on both, its disk would be destroyed.

    A definition marked away belongs to ``--stay-defined``. Certain is one case: the last move we
    know of ended on the host where the VM runs now, and the other host has it shut off.
    """
    for copies in _by_uuid(census):
        if len(copies) < 2 or any(copy.side is Side.HELD or copy.has_job for copy in copies):
            continue
        serving = [copy for copy in copies if copy.side is Side.SERVING]
        stale = [copy for copy in copies if copy.side is Side.OFF]
        move = census.journal.moves.get(copies[0].uuid)
        names = " and ".join(sorted(copy.host for copy in copies))
        known = (
            move is not None
            and not move.stay_defined
            and len(copies) == 2
            and [copy.host for copy in serving] == [move.target]
            and [copy.host for copy in stale] == [move.source]
        )
        message = f"VM {copies[0].name} is on {names}"
        if len(serving) > 1:
            message = f"VM {copies[0].name} RUNS TWICE, on {names}"
        yield Ailment(
            code="",
            message=message,
            cure=f"undefine it on {stale[0].host}; its disks stay"
            if known
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
        if not held or any(copy.has_job for copy in copies):
            continue
        serving = [copy for copy in copies if copy.side is Side.SERVING]
        one_half = len(copies) == 2 and len(held) == 1 and len(serving) == 1
        yield Ailment(
            code="",
            message=f"VM {held[0].name} stands still on {held[0].host}, half moved",
            cure=f"end this half: the VM serves on {serving[0].host}"
            if one_half
            else "see whether its memory is whole, then virsh resume or virsh destroy",
            object=f"vm/{held[0].name}",
            host=held[0].host,
            certain=one_half and not census.unseen,
            facts={"uuid": held[0].uuid} | ({"serves": serving[0].host} if one_half else {}),
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
