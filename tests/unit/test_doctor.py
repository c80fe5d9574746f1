"""What the doctor finds in a census, and what it is certain of."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from tests.builders import an_operation
from twinship.doctor.census import CARRIER, Census, Seen
from twinship.doctor.journal import Journal, Made, Move
from twinship.doctor.table import TABLE, run
from twinship.domxml.resources import Held, Reach
from twinship.migrate.reconcile import Side
from twinship.model.operation import OperationState

WEB = "11111111-2222-4333-8444-555555555555"
OTHER = "99999999-2222-4333-8444-555555555555"
MOVED = {WEB: Move(source="kvm01", target="kvm02", stay_defined=False)}


def seen(host: str, side: Side = Side.OFF, **fields: object) -> Seen:
    values: dict[str, object] = {
        "host": host,
        "uuid": WEB,
        "name": "web",
        "side": side,
        "has_job": False,
        "persistent": True,
    }
    return Seen(**(values | fields))  # type: ignore[arg-type]


def journal(**fields: object) -> Journal:
    values: dict[str, object] = {
        "held": frozenset(),
        "carriers": frozenset(),
        "made": (),
        "moves": {},
        "unsettled": (),
        "stale_claims": (),
    }
    return Journal(**(values | fields))  # type: ignore[arg-type]


def census(
    *vms: Seen,
    unseen: Mapping[str, str] | None = None,
    files: frozenset[tuple[str, str]] = frozenset(),
    known: Journal | None = None,
) -> Census:
    return Census(
        vms=vms,
        unseen=unseen or {},
        hosts=("kvm01", "kvm02", "kvm03"),
        files=files,
        journal=known or journal(),
    )


def codes(found: Census) -> list[tuple[str, bool]]:
    return [(ailment.code, ailment.certain) for ailment in run(found)]


def test_a_healthy_fleet_has_nothing() -> None:
    assert run(census(seen("kvm01"), seen("kvm02", Side.SERVING, uuid=OTHER))) == ()


# Twice


def test_a_stale_definition_where_the_last_move_began_is_certain() -> None:
    both = (seen("kvm01"), seen("kvm02", Side.SERVING))
    (found,) = run(census(*both, known=journal(moves=MOVED)))
    assert (found.code, found.certain, found.host) == ("VM_TWICE", True, "kvm01")


def test_without_a_journal_it_is_for_a_person() -> None:
    assert codes(census(seen("kvm01"), seen("kvm02", Side.SERVING))) == [("VM_TWICE", False)]


def test_two_that_are_shut_off_are_for_a_person() -> None:
    both = (seen("kvm01"), seen("kvm02"))
    assert codes(census(*both, known=journal(moves=MOVED))) == [("VM_TWICE", False)]


def test_a_vm_that_runs_at_the_source_of_the_last_move_is_for_a_person() -> None:
    both = (seen("kvm01", Side.SERVING), seen("kvm02"))
    assert codes(census(*both, known=journal(moves=MOVED))) == [("VM_TWICE", False)]


def test_a_definition_that_was_to_stay_is_well() -> None:
    assert codes(census(seen("kvm01", away="kvm02"), seen("kvm02", Side.SERVING))) == []


def test_what_an_operation_works_on_is_left_to_it() -> None:
    known = journal(held=frozenset({WEB}))
    both = (seen("kvm01", Side.SERVING), seen("kvm02", Side.HELD))
    assert codes(census(*both, known=known)) == []


def test_a_move_that_somebody_else_makes_is_left_to_them() -> None:
    both = (seen("kvm01", Side.SERVING, has_job=True), seen("kvm02", Side.HELD))
    assert codes(census(*both)) == []


# Held


def test_a_half_beside_one_that_serves_is_certain() -> None:
    (found,) = run(census(seen("kvm01", Side.SERVING), seen("kvm02", Side.HELD)))
    assert (found.code, found.certain, found.host) == ("VM_HELD", True, "kvm02")


def test_a_half_alone_is_for_a_person() -> None:
    assert codes(census(seen("kvm01", Side.HELD))) == [("VM_HELD", False)]


sides = st.sampled_from([Side.OFF, Side.SERVING, Side.HELD])


@given(
    st.lists(st.tuples(st.sampled_from(["kvm01", "kvm02", "kvm03"]), sides), min_size=1),
    st.booleans(),
    st.booleans(),
)
def test_one_that_serves_is_never_to_be_ended_nor_one_touched_while_a_host_is_unseen(
    there: list[tuple[str, Side]], moved: bool, unseen: bool
) -> None:
    copies = {host: seen(host, side) for host, side in there}
    known = journal(moves=MOVED if moved else {})
    gone = {"kvm09": "no route"} if unseen else {}
    for ailment in run(census(*copies.values(), unseen=gone, known=known)):
        if ailment.code in ("VM_TWICE", "VM_HELD") and ailment.certain:
            assert not unseen
            assert copies[ailment.host].side is not Side.SERVING
            assert copies[ailment.facts["serves"]].side is Side.SERVING


# The rest


def test_a_carrier_without_its_operation_is_found_and_one_with_it_is_not() -> None:
    carrier = seen("kvm01", Side.SERVING, name=f"{CARRIER}{WEB[:8]}", persistent=False)
    assert codes(census(carrier)) == [("CARRIER_LEFT", True)]
    assert codes(census(carrier, known=journal(carriers=frozenset({WEB})))) == []


def test_a_vm_that_is_only_called_like_a_carrier_is_no_carrier() -> None:
    assert codes(census(seen("kvm01", name=f"{CARRIER}{WEB[:8]}", persistent=True))) == []
    assert codes(census(seen("kvm01", name=f"{CARRIER}00000000", persistent=False))) == []


def test_a_file_an_operation_left_is_found_unless_a_vm_uses_it() -> None:
    made = Made(operation="op", title="clone web", host="kvm01", path="/a.qcow2")
    known, there = journal(made=(made,)), frozenset({("kvm01", "/a.qcow2")})
    assert codes(census(files=there, known=known)) == [("VOLUME_LEFT", True)]
    user = seen("kvm01", paths=frozenset({"/a.qcow2"}))
    assert codes(census(user, files=there, known=known)) == []
    assert codes(census(known=known)) == [], "it is gone already"


def test_what_else_is_found() -> None:
    known = journal(
        stale_claims=(("vm/x", "op-9"),),
        unsettled=(an_operation(state=OperationState.NEEDS_ATTENTION, waiting_for="a riddle"),),
    )
    vm = seen("kvm01", away="kvm02")
    found = census(vm, unseen={"kvm03": "no route"}, known=known)
    assert codes(found) == [
        ("CLAIM_STALE", True),
        ("OPERATION_UNSETTLED", True),
        ("MARK_STALE", False),
        ("HOST_UNSEEN", False),
    ]


def test_two_vms_with_one_identity_or_one_file_to_write_are_told() -> None:
    mac = Held("MAC address", "52:54:00:aa:00:01", Reach.ANYWHERE)
    file = Held("file", "/images/a.qcow2", Reach.ON_HOST)
    port = Held("TCP port", "5901", Reach.ON_HOST)
    one = seen("kvm01", holds=frozenset({mac, file, port}))

    same_host = run(census(one, seen("kvm01", uuid=OTHER, name="b", holds=one.holds)))
    elsewhere = run(census(one, seen("kvm02", uuid=OTHER, name="b", holds=one.holds)))

    assert [(a.code, a.certain) for a in same_host] == [("VM_COLLISION", False)] * 2
    assert [a.message for a in elsewhere] == [
        "kvm01/web and kvm02/b hold the same MAC address 52:54:00:aa:00:01"
    ]


def test_every_row_says_why() -> None:
    assert all((row.__doc__ or "").strip() for row in TABLE.values())
