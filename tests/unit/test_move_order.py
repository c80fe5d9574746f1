"""What moves first and what beside what: for whatever VMs there are."""

from __future__ import annotations

import threading
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from twinship.migrate.order import (
    MIB,
    OVERLAP_BYTES,
    SMALL_BYTES,
    Load,
    fits,
    may_begin,
    next_to_begin,
    ordered,
)
from twinship.migrate.turns import Turns
from twinship.planning.slots import move_slots, small_move_slots

HOSTS = ("kvm01", "kvm02", "kvm03")
LIMITS = {"in": 2, "out": 2, "small": 6, "pool": 4, "total": 16}


def a_load(
    memory_mib: int = 0, disk_mib: int = 0, source: str = "kvm01", target: str = "kvm09"
) -> Load:
    pools = ("images",) if disk_mib else ()
    load = Load(
        source=source, target=target, memory_bytes=memory_mib * MIB, disk_bytes=disk_mib * MIB
    )
    slots = small_move_slots(source, target) if load.small else move_slots(source, target, pools)
    return Load(
        source=source,
        target=target,
        memory_bytes=memory_mib * MIB,
        disk_bytes=disk_mib * MIB,
        slots=slots,
    )


loads = st.builds(
    a_load,
    st.sampled_from([0, 64, 128, 512, 513, 1024, 4096, 65536]),
    st.sampled_from([0, 0, 1, 2048, 50000]),
    st.sampled_from(HOSTS),
)
many = st.lists(loads, max_size=14)


def in_order(given: list[Load]) -> list[Load]:
    return [given[at] for at in ordered(given)]


def test_running_before_shut_off_disks_before_memory_large_before_small() -> None:
    off_small, off_large = a_load(0, 10), a_load(0, 9000)
    small, large, copied = a_load(128), a_load(8192), a_load(256, 500)

    assert in_order([off_small, small, off_large, large, copied]) == [
        copied,
        large,
        small,
        off_large,
        off_small,
    ]


def test_equal_ones_begin_as_they_were_named() -> None:
    assert ordered([a_load(128)] * 4) == (0, 1, 2, 3)


@given(many)
def test_every_vm_has_one_place(given: list[Load]) -> None:
    assert sorted(ordered(given)) == list(range(len(given)))


@given(many)
def test_the_order_does_not_depend_on_how_they_were_named_but_for_equals(given: list[Load]) -> None:
    assert in_order(given) == in_order(in_order(given))
    keys = [(load.memory_bytes, load.disk_bytes) for load in in_order(given)]
    assert keys == [(load.memory_bytes, load.disk_bytes) for load in in_order(given[::-1])]


@given(many, st.randoms(use_true_random=False))
def test_all_get_through_within_every_limit(given: list[Load], random: Random) -> None:
    waiting, under_way, begun = in_order(given), list[Load](), 0
    while waiting or under_way:
        at = next_to_begin(waiting, under_way, LIMITS)
        if at is None:
            assert under_way, "with nothing under way the first may begin"
            del under_way[random.randrange(len(under_way))]
            continue
        under_way.append(waiting.pop(at))
        begun += 1
        for slot in {slot for load in under_way for slot in load.slots}:
            taken = sum(slot in load.slots for load in under_way)
            assert taken <= LIMITS[slot.partition("/")[0]]
        for end in {end for load in under_way for end in load.ends}:
            crossing = [
                load.memory_bytes
                for load in under_way
                if end in load.ends and load.memory_bytes and not load.disk_bytes
            ]
            assert len(crossing) <= 1 or sum(crossing) <= OVERLAP_BYTES
    assert begun == len(given)


def test_small_memories_overlap_and_a_large_one_goes_alone() -> None:
    assert fits([128 * MIB] * 7, 128 * MIB)
    assert not fits([128 * MIB] * 8, 128 * MIB)
    assert fits([], 64 * OVERLAP_BYTES)
    assert not fits([64 * OVERLAP_BYTES], 128 * MIB)


def test_disks_are_copied_while_the_memory_of_another_crosses() -> None:
    assert may_begin(a_load(8192, 500), [a_load(8192)], LIMITS)
    assert not may_begin(a_load(8192), [a_load(8192)], LIMITS)


def test_small_ones_do_not_overtake_a_large_one_that_waits() -> None:
    under_way = [a_load(128)]
    assert next_to_begin([a_load(8192), a_load(128)], under_way, LIMITS) is None
    # One of another host into another has nothing to do with it.
    apart = a_load(128, source="kvm02", target="kvm03")
    assert next_to_begin([a_load(8192), apart], under_way, LIMITS) == 1


def test_shut_off_ones_go_beside_whatever_crosses() -> None:
    assert next_to_begin([a_load(8192), a_load(0, 500)], [a_load(8192)], LIMITS) == 1


def test_a_memory_is_small_if_another_goes_beside_it() -> None:
    assert a_load(SMALL_BYTES // MIB).small
    assert not a_load(SMALL_BYTES // MIB + 1).small
    assert not a_load(64, 1).small


# Turns


LINK = ("out/kvm01", "in/kvm02")


def test_one_large_memory_at_a_time_first_come_first_served() -> None:
    turns, large = Turns(), 8 * OVERLAP_BYTES
    with turns.queue(LINK, large) as first, turns.queue(LINK, large) as second:
        assert turns.mine(first)
        assert not turns.mine(second)
        with turns.queue(LINK, 1) as third:
            assert not turns.mine(third), "a small one does not pass one that waits"
            with turns.queue(("out/kvm03", "in/kvm04"), large) as elsewhere:
                assert turns.mine(elsewhere)
        assert turns.mine(first), "it keeps its turn"
    with turns.queue(LINK, large) as next_one:
        assert turns.mine(next_one), "all turns were given back"


def test_ends_count_not_pairs_of_hosts() -> None:
    turns = Turns()
    with (
        turns.queue(("out/kvm01", "in/kvm09"), 2 * OVERLAP_BYTES) as one,
        turns.queue(("out/kvm02", "in/kvm09"), 2 * OVERLAP_BYTES) as other,
        turns.queue(("out/kvm09", "in/kvm01"), 2 * OVERLAP_BYTES) as back,
    ):
        assert turns.mine(one)
        assert not turns.mine(other), "both come in at kvm09"
        assert turns.mine(back), "the way back is another"


def test_a_turn_is_given_back_by_one_that_fails() -> None:
    turns = Turns()
    try:
        with turns.queue(LINK, OVERLAP_BYTES) as lost:
            turns.mine(lost)
            raise RuntimeError("the move failed")
    except RuntimeError:
        pass
    with turns.queue(LINK, OVERLAP_BYTES) as after:
        assert turns.mine(after)


@given(st.lists(st.integers(1, 3 * OVERLAP_BYTES), min_size=1, max_size=8))
def test_threads_never_cross_together_beyond_what_fits(sizes: list[int]) -> None:
    turns, lock, crossing = Turns(), threading.Lock(), list[int]()
    wrong: list[list[int]] = []

    def cross(size: int) -> None:
        with turns.queue(LINK, size) as turn:
            while not turns.mine(turn):
                threading.Event().wait(0.0005)
            with lock:
                crossing.append(size)
                if len(crossing) > 1 and sum(crossing) > OVERLAP_BYTES:
                    wrong.append(list(crossing))
            threading.Event().wait(0.001)
            with lock:
                crossing.remove(size)

    threads = [threading.Thread(target=cross, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not wrong
    assert not any(thread.is_alive() for thread in threads)
