"""What the doctor finds in a census, and what it is certain of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import an_operation
from twinship.doctor.census import CARRIER, Census, Seen, alike
from twinship.doctor.journal import Journal, Made, Move
from twinship.doctor.stores import Store, Twin
from twinship.doctor.table import TABLE, run
from twinship.domxml.resources import Held, Reach
from twinship.hypervisor.secrets import Secret
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


sides = st.sampled_from([Side.OFF, Side.SERVING, Side.HELD, Side.HALF])


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
            assert copies[ailment.host].side not in (Side.SERVING, Side.HALF)
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


# Halves of post-copy, and definitions elsewhere


def test_the_halves_of_a_broken_post_copy_move_are_never_to_be_ended() -> None:
    """The target runs and the source is paused, so that it looks like a half that is left."""
    both = (
        seen("kvm01", Side.HALF, reason="post_copy_failed"),
        seen("kvm02", Side.HALF, reason="post_copy_failed", persistent=False),
    )
    (found,) = run(census(*both))
    assert (found.code, found.certain) == ("POST_COPY_BROKEN", False)
    assert "--postcopy-resume" in found.cure
    under_way = tuple(replace(half, reason="post_copy") for half in both)
    assert codes(census(*under_way)) == [], "it goes on"
    held = (both[0], seen("kvm02", Side.HELD, persistent=False))
    assert codes(census(*held)) == [("POST_COPY_BROKEN", False)]
    served = (both[0], seen("kvm02", Side.SERVING, persistent=False))
    assert codes(census(*served)) == [("POST_COPY_BROKEN", False)]
    (alone,) = run(census(both[0], seen("kvm02")))
    assert (alone.code, alone.certain) == ("POST_COPY_BROKEN", False)
    assert "from its disks" in alone.cure


def test_a_vm_that_runs_without_its_definition_is_no_twin() -> None:
    both = (seen("kvm01"), seen("kvm02", Side.SERVING, persistent=False))
    for known in (journal(), journal(moves=MOVED)):
        (found,) = run(census(*both, known=known))
        assert (found.code, found.certain, found.host) == ("VM_DEFINED_ELSEWHERE", False, "kvm01")


def test_two_that_run_on_one_disk_are_told_with_it() -> None:
    disk = frozenset({Held("network disk", "nbd:san/web", Reach.ANYWHERE)})
    both = (seen("kvm01", Side.SERVING, holds=disk), seen("kvm02", Side.SERVING, holds=disk))
    (found,) = run(census(*both))
    assert (found.code, found.certain) == ("VM_TWICE", False)
    assert "RUNS TWICE" in found.message
    assert "nbd:san/web" in found.message


def test_what_to_do_about_a_lone_half_depends_on_which_it_is() -> None:
    (source,) = run(census(seen("kvm01", Side.HELD, reason="migration")))
    assert "virsh resume" in source.cure
    (target,) = run(census(seen("kvm01", Side.HELD, reason="migration", persistent=False)))
    assert "virsh destroy" in target.cure
    (two,) = run(census(seen("kvm01", Side.HELD), seen("kvm02", Side.HELD, persistent=False)))
    assert not two.certain


# Jobs


def test_a_migration_to_nowhere_is_told() -> None:
    alone = seen("kvm01", Side.SERVING, has_job=True, job="migration out")
    assert codes(census(alone)) == [("MIGRATION_STUCK", False)]
    assert codes(census(alone, seen("kvm02", Side.HELD))) == [], "it is under way"
    assert codes(census(replace(alone, job="backup"))) == []


def test_a_disk_copy_that_is_left_is_told_unless_a_move_makes_it() -> None:
    copying = seen("kvm01", Side.SERVING, copying=("vda",))
    assert codes(census(copying)) == [("DISK_COPY_LEFT", False)]
    moving = replace(copying, has_job=True, job="migration out")
    assert codes(census(moving, seen("kvm02", Side.HELD))) == []
    assert codes(census(copying, known=journal(held=frozenset({WEB})))) == []


# Files that nobody has

DISK = "/images/web.qcow2"


def twin(**fields: object) -> Twin:
    values: dict[str, object] = {
        "host": "kvm01",
        "other": "kvm02",
        "path": DISK,
        "pool": "default",
        "allocated_bytes": 1,
        "same": False,
    }
    return Twin(**(values | fields))  # type: ignore[arg-type]


def stored(*paths: str, **fields: object) -> Store:
    return Store(files=dict.fromkeys(paths, "default"), **fields)  # type: ignore[arg-type]


def fleet(*vms: Seen, known: Journal | None = None, **fields: object) -> Census:
    return replace(census(*vms, known=known), **fields)  # type: ignore[arg-type]


def test_the_old_disk_of_a_vm_we_moved_is_a_note() -> None:
    moved = seen("kvm02", Side.SERVING, paths=frozenset({DISK}))
    (found,) = run(fleet(moved, twins=(twin(),), known=journal(moves=MOVED)))
    assert (found.code, found.note, found.certain) == ("DISK_LEFT_BEHIND", True, False)
    assert "virsh vol-delete --pool default web.qcow2 on kvm01" in found.cure


def test_a_copy_that_nobody_has_is_for_a_person() -> None:
    runs = seen("kvm02", Side.SERVING, paths=frozenset({DISK}))
    (found,) = run(fleet(runs, twins=(twin(),)))
    assert (found.code, found.note, found.certain) == ("COPY_LEFT", False, False)
    assert "--with kvm02" in found.cure


@pytest.mark.parametrize("safe", [{"same": True}, {"based_on": True}])
def test_a_shared_disk_and_a_base_are_no_copies(safe: dict[str, object]) -> None:
    runs = seen("kvm02", Side.SERVING, paths=frozenset({DISK}))
    assert run(fleet(runs, twins=(twin(**safe),))) == ()


there = st.booleans()


@given(there, there, there, there, there)
def test_only_a_file_that_no_vm_of_its_host_has_can_look_like_a_copy(
    has_vm: bool, file_here: bool, file_there: bool, made: bool, held: bool
) -> None:
    vms_seen = [seen("kvm02", paths=frozenset({DISK}))]
    if has_vm:
        vms_seen.append(seen("kvm01", uuid=OTHER, paths=frozenset({DISK})))
    stores = {
        "kvm01": stored(*([DISK] if file_here else [])),
        "kvm02": stored(*([DISK] if file_there else [])),
    }
    left = (Made(operation="op", title="move web", host="kvm01", path=DISK),) if made else ()
    known = journal(made=left, held=frozenset({WEB}) if held else frozenset())
    found = alike(vms_seen, stores, known)
    wanted = file_here and file_there and not (has_vm or made or held)
    assert found == ((("kvm01", "kvm02", DISK),) if wanted else ())


def test_a_pool_of_an_operation_that_is_over_is_closed() -> None:
    pools = ("default", "twinship-1nghk7t4scp4", "twinship-1nghk7t4scp5-from", "twinship-mine")
    store = {"kvm01": Store(pools=pools)}
    found = run(fleet(stores=store, known=journal(unfinished=frozenset({"1nghk7t4scp4"}))))
    assert [(a.code, a.certain, a.facts["pool"]) for a in found] == [
        ("POOL_LEFT", True, "twinship-1nghk7t4scp5-from")
    ]


def test_a_token_is_deleted() -> None:
    store = {"kvm01": stored("/images/.twinship-token-0123456789abcdef", "/images/other")}
    assert codes(fleet(stores=store)) == [("TOKEN_LEFT", True)]
    busy = journal(unfinished=frozenset({"op-1"}))
    assert codes(fleet(stores=store, known=busy)) == [("TOKEN_LEFT", False)]


def test_state_named_by_a_uuid_that_is_nobodys_is_told() -> None:
    mine, nobodys = f"/nvram/{WEB}_VARS.fd", f"/swtpm/{OTHER}"
    known = fleet(seen("kvm02"), stores={"kvm01": stored(mine, nobodys)})
    assert [(a.code, a.facts["path"]) for a in run(known)] == [("STATE_LEFT", nobodys)]
    assert codes(replace(known, unseen={"kvm03": "no route"})) == [("HOST_UNSEEN", False)]


def test_a_secret_for_a_disk_that_is_gone_is_told() -> None:
    secrets = (
        Secret(uuid=OTHER, kind="volume", usage="/images/gone"),
        Secret(uuid=WEB, kind="volume", usage=DISK),
        Secret(uuid="c" * 36, kind="ceph", usage="client.x"),
    )
    known = fleet(stores={"kvm01": stored(DISK, secrets=secrets)})
    assert [(a.code, a.facts["uuid"]) for a in run(known)] == [("SECRET_LEFT", OTHER)]
    user = seen("kvm02", secrets=frozenset({OTHER}))
    assert run(replace(known, vms=(user,))) == ()
