"""Which way an interrupted move goes, over the whole product of what can be seen.

A small model of two hosts does what each verdict says, and what the phases do after it; whatever
was seen, it must end with one VM that can run, or with nothing touched and a person called.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from twinship.migrate.reconcile import LIVE, OFFLINE, Deed, Side, reconcile_move
from twinship.operations.verb import Decision

SEEN = (Side.ABSENT, Side.OFF, Side.SERVING, Side.HELD, Side.HALF)
CASES = tuple(itertools.product(Side, Side, (True, False), (True, False)))
CLEAR = tuple(case for case in CASES if Side.UNSEEN not in case[:2])
IDS = [
    f"{source}-{target}-{'live' if live else 'offline'}-{'arrived' if arrived else 'under way'}"
    for source, target, live, arrived in CLEAR
]


@dataclass(frozen=True)
class World:
    """Both hosts. A VM that is ended stays behind as a definition only where it has one."""

    source: Side
    target: Side
    source_defined: bool
    target_defined: bool

    def after(self, deed: Deed) -> World:
        match deed:
            case Deed.STOP_JOB:
                return self
            case Deed.END_TARGET:
                return replace(self, target=_ended(self.target, self.target_defined))
            case Deed.UNDEFINE_TARGET:
                gone = Side.ABSENT if self.target is Side.OFF else self.target
                return replace(self, target=gone, target_defined=False)
            case Deed.RESUME_SOURCE:
                assert self.source is Side.HELD
                return replace(self, source=Side.SERVING)
            case Deed.END_SOURCE:
                return replace(self, source=_ended(self.source, self.source_defined))
            case Deed.JOIN:
                assert Side.HALF in (self.source, self.target)
                ended = Side.OFF if self.source_defined else Side.ABSENT
                return replace(self, source=ended, target=Side.SERVING)

    @property
    def runnable(self) -> int:
        return sum(side is not Side.ABSENT for side in (self.source, self.target))


def _ended(side: Side, defined: bool) -> Side:
    if side in (Side.SERVING, Side.HELD):
        return Side.OFF if defined else Side.ABSENT
    return side


def worlds(source: Side, target: Side) -> Iterator[World]:
    """Every world that looks like this: what is off has a definition, what runs may have one."""
    for kept, arrived in itertools.product((True, False), repeat=2):
        if (source is Side.OFF and not kept) or (source is Side.ABSENT and kept):
            continue
        if (target is Side.OFF and not arrived) or (target is Side.ABSENT and arrived):
            continue
        yield World(source, target, source_defined=kept, target_defined=arrived)


def settled(world: World, *, live: bool, arrived: bool) -> tuple[World, Decision]:
    """Does what the verdict asks for until it asks for nothing more, and then what phases do."""
    for _ in range(len(Deed) + 1):
        verdict = reconcile_move(world.source, world.target, live=live, arrived=arrived)
        if not verdict.deeds:
            break
        for deed in verdict.deeds:
            world = world.after(deed)
    else:
        pytest.fail("the verdicts never come to rest")
    if verdict.decision is Decision.FORWARD and world.source is Side.OFF:
        world = replace(world, source=Side.ABSENT, source_defined=False)
    return world, verdict.decision


@pytest.mark.parametrize(("source", "target", "live", "arrived"), CASES)
def test_whatever_is_seen_there_is_a_verdict_with_a_reason(
    source: Side, target: Side, live: bool, arrived: bool
) -> None:
    verdict = reconcile_move(source, target, live=live, arrived=arrived)

    assert verdict.why
    if verdict.decision in (Decision.WAIT, Decision.ATTENTION):
        assert verdict.deeds == ()


def test_both_tables_have_a_row_for_every_pair() -> None:
    pairs = set(itertools.product(SEEN, SEEN))

    assert LIVE.keys() == pairs
    assert OFFLINE.keys() == pairs


@pytest.mark.parametrize(("source", "target", "live", "arrived"), CASES)
def test_while_a_side_is_unseen_it_waits_and_touches_nothing(
    source: Side, target: Side, live: bool, arrived: bool
) -> None:
    verdict = reconcile_move(source, target, live=live, arrived=arrived)

    assert (verdict.decision is Decision.WAIT) == (Side.UNSEEN in (source, target))
    for name, side in (("source", source), ("target", target)):
        if verdict.decision is Decision.WAIT:
            assert (name in verdict.why) == (side is Side.UNSEEN)


@pytest.mark.parametrize(("source", "target", "live", "arrived"), CLEAR, ids=IDS)
def test_no_answer_leaves_two_vms_that_can_run_or_none(
    source: Side, target: Side, live: bool, arrived: bool
) -> None:
    for world in worlds(source, target):
        end, decision = settled(world, live=live, arrived=arrived)
        match decision:
            case Decision.ATTENTION:
                assert end == world
            case Decision.BACK:
                assert end.source in (Side.OFF, Side.SERVING, Side.HELD)
                assert end.target is Side.ABSENT
            case Decision.FORWARD:
                assert end.target in (Side.OFF, Side.SERVING)
                assert end.source is Side.ABSENT
            case Decision.WAIT:
                pytest.fail("both sides are seen")


@pytest.mark.parametrize(("source", "target", "live", "arrived"), CLEAR, ids=IDS)
def test_a_vm_that_serves_alone_is_never_ended(
    source: Side, target: Side, live: bool, arrived: bool
) -> None:
    deeds = reconcile_move(source, target, live=live, arrived=arrived).deeds

    if target is Side.SERVING and source is not Side.SERVING:
        assert Deed.END_TARGET not in deeds
    if source is Side.SERVING:
        assert Deed.END_SOURCE not in deeds


@pytest.mark.parametrize(("source", "target", "live", "arrived"), CLEAR, ids=IDS)
def test_a_half_of_a_post_copy_move_is_never_touched_but_to_join_it(
    source: Side, target: Side, live: bool, arrived: bool
) -> None:
    """To end either, or to let the source go on, loses the guest's memory."""
    verdict = reconcile_move(source, target, live=live, arrived=arrived)

    if Side.HALF in (source, target):
        assert verdict.deeds in ((), (Deed.JOIN,))
        assert verdict.decision is not Decision.BACK
        assert (verdict.decision is Decision.FORWARD) == bool(verdict.deeds)
    else:
        assert Deed.JOIN not in verdict.deeds


def test_two_halves_are_joined() -> None:
    verdict = reconcile_move(Side.HALF, Side.HALF, live=True, arrived=False)

    assert (verdict.decision, verdict.deeds) == (Decision.FORWARD, (Deed.JOIN,))


@pytest.mark.parametrize(("source", "target"), tuple(itertools.product(SEEN, SEEN)))
def test_a_live_move_that_arrived_never_goes_back(source: Side, target: Side) -> None:
    """What the guest wrote since is on the target alone: undoing would delete it."""
    verdict = reconcile_move(source, target, live=True, arrived=True)

    assert verdict.decision in (Decision.FORWARD, Decision.ATTENTION)
    assert Deed.END_TARGET not in verdict.deeds
    assert Deed.UNDEFINE_TARGET not in verdict.deeds


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("source", [Side.OFF, Side.ABSENT, Side.HELD])
@pytest.mark.parametrize("target", [Side.OFF, Side.SERVING])
def test_a_vm_that_arrived_and_was_shut_off_since_is_no_riddle(
    source: Side, target: Side, live: bool
) -> None:
    assert reconcile_move(source, target, live=live, arrived=True).decision is Decision.FORWARD


def test_a_source_that_was_started_again_is_left_to_a_person_once_the_target_had_it_all() -> None:
    verdict = reconcile_move(Side.SERVING, Side.SERVING, live=True, arrived=True)

    assert verdict.decision is Decision.ATTENTION
    assert verdict.deeds == ()
