"""A move in post-copy: what is followed, what is refused, and that it is tried for ever."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.builders import a_move_of, a_plan, a_vm, move_request, new_ids
from tests.fakes import FakeClock, FakeProcesses, FakeVerb, FakeWorld
from twinship.hypervisor import vms
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.jobs import Move, MoveStats
from twinship.migrate import halves, settle
from twinship.migrate.halves import NO_WAY_BACK, Switch, rejoin
from twinship.migrate.observe import Sides
from twinship.migrate.plan import asked_for, plan_migrate
from twinship.migrate.reconcile import Side
from twinship.model.errors import Conflict, HostUnreachable, TwinshipError
from twinship.model.operation import Operation
from twinship.model.request import MigrateMode, PostCopyWay
from twinship.operations.dispatch import Dispatch
from twinship.operations.engine import Engine
from twinship.operations.job import Job
from twinship.operations.runner import Runner
from twinship.operations.verb import Decision
from twinship.store.database import Database
from twinship.store.operations import OperationStore
from twinship.transfer.carrier import watch_move
from twinship.transfer.steps import Hosts

BROKE = TwinshipError("cannot move VM web", code="HYPERVISOR", cause="failed in post-copy phase")
SPEC: dict[str, Any] = {
    "vm": {"name": "web", "uuid": "u"},
    "max_pause_s": None,
    "post_copy": "prefer",
}
HALVES = Sides(source=Side.HALF, target=Side.HALF)
ARRIVED = Sides(source=Side.OFF, target=Side.SERVING)
NO_HOSTS = cast(Hosts, None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[OperationStore]:
    database = Database(tmp_path / "twinship.db")
    yield OperationStore(database)
    database.close()


class FakeDesk:
    """A job that is under way, and everything that was shown of it."""

    def __init__(self, store: OperationStore) -> None:
        self.store, self.clock = store, FakeClock()
        self.seen: list[Operation] = []
        engine = Engine(
            store,
            {"fake": FakeVerb(FakeWorld())},
            self.clock,
            FakeProcesses(),
            lease_s=20,
            limits={},
        )
        self.job: Job = engine.submit(a_plan("vm/web"), self.seen.append)
        self.runner = Runner(
            engine,
            store,
            self.clock,
            dispatch=cast(Dispatch, None),
            patience_s=1,
            before_thread=lambda: None,
        )

    def said(self) -> list[str]:
        words = [op.waiting_for or op.progress.phase for op in self.seen]
        return [word for word, _ in itertools.groupby(words)]


@pytest.fixture
def desk(store: OperationStore) -> FakeDesk:
    return FakeDesk(store)


class FakeMove:
    """A move with made-up numbers; ``ends_after`` looks it is over."""

    def __init__(self, *rounds: int, ends_after: int = 10**6, clock: FakeClock | None = None):
        self.rounds = itertools.chain(rounds, itertools.repeat(rounds[-1]))
        self.looks, self.ends_after, self.clock = 0, ends_after, clock
        self.orders = 0
        self.aborted = False

    def wait(self, seconds: float) -> bool:
        self.looks += 1
        if self.clock is not None:
            self.clock.advance(seconds)
        return self.aborted or self.looks > self.ends_after

    def unanswered(self) -> bool:
        return False

    def stats(self) -> MoveStats:
        return MoveStats(iteration=next(self.rounds), memory_processed=1, memory_remaining=10**9)

    def start_post_copy(self) -> bool:
        self.orders += 1
        return self.orders > 1

    def abort(self) -> None:
        self.aborted = True

    def finish(self) -> None:
        if self.aborted:
            raise BROKE


class FakeEnd:
    name = "lab1"

    def __init__(self, *, alive: bool) -> None:
        self._alive = alive

    def alive(self) -> bool:
        return self._alive


def a_switch(desk: FakeDesk, move: FakeMove, **spec: Any) -> Switch:
    return Switch(desk.job, cast(Move, move), cast(Connection, None), {**SPEC, **spec})


# The spec


def test_a_spec_keeps_what_was_asked_for_and_an_old_one_asks_for_none() -> None:
    request = move_request(post_copy=PostCopyWay.ALLOW)
    spec = dict(plan_migrate(a_move_of(a_vm().with_disk().running()), request, new_ids()).spec)
    assert spec["post_copy"] == "allow"
    assert asked_for(spec).post_copy is PostCopyWay.ALLOW

    spec["request"] = {k: v for k, v in spec["request"].items() if k != "post_copy"}
    assert asked_for(spec).post_copy is PostCopyWay.NEVER


@pytest.mark.parametrize("mode", [MigrateMode.NON_LIVE, MigrateMode.OFFLINE])
def test_only_a_live_move_goes_over_to_post_copy(mode: MigrateMode) -> None:
    request = move_request(post_copy=PostCopyWay.PREFER, mode=mode)
    spec = plan_migrate(a_move_of(a_vm().with_disk().running()), request, new_ids()).spec
    assert spec["post_copy"] == "never"


# The switch


def test_the_rounds_are_told_and_the_switch_is_ordered_until_it_is_taken(
    desk: FakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = (None, "migration", True)
    monkeypatch.setattr(vms, "state", lambda *_: state)
    move = FakeMove(1, 1, 2)
    switch = a_switch(desk, move)
    for _ in range(4):
        assert not switch.asked()
        switch.saw(move.stats())
    assert switch.asked()
    assert move.orders == 2
    switch.saw(move.stats())
    for reason in ("post_copy", "post_copy_failed"):
        state = (None, reason, True)
        desk.clock.advance(1)
        switch.saw(move.stats())

    assert desk.said()[-4:] == [
        "move the VM: memory round 1",
        "move the VM: memory round 2",
        "move the VM: switched to post-copy",
        "move the VM: link broken, the target has not noticed yet",
    ]
    assert desk.job.notes("move") == {"post_copy": True}


def test_a_memory_that_is_held_back_for_another_does_not_switch(desk: FakeDesk) -> None:
    move = FakeMove(1, 2, 3, 4, 5, 6, 7)
    switch = a_switch(desk, move)
    for _ in range(7):
        switch.saw(move.stats(), its_turn=False)
    assert move.orders == 0


@pytest.mark.parametrize("spec", [{"post_copy": "never"}, {}])
def test_a_move_that_may_not_never_switches(desk: FakeDesk, spec: dict[str, Any]) -> None:
    """Nor one whose spec is of a version that did not know of post-copy."""
    move = FakeMove(1, 2, 3, 4, 5, 6, 7)
    old = {name: value for name, value in SPEC.items() if name != "post_copy"}
    switch = Switch(desk.job, cast(Move, move), cast(Connection, None), {**old, **spec})
    for _ in range(7):
        switch.saw(move.stats())
    assert move.orders == 0


def test_a_forecast_that_it_will_not_arrive_lets_it_switch_at_once(desk: FakeDesk) -> None:
    move = FakeMove(1, 2)
    switch = a_switch(desk, move, post_copy="allow", forecast={"verdict": "will_not"})
    for _ in range(2):
        switch.saw(move.stats())
    assert move.orders == 1
    unsure = FakeMove(1, 2)
    switch = a_switch(desk, unsure, post_copy="allow", forecast={"verdict": "maybe"})
    for _ in range(2):
        switch.saw(unsure.stats())
    assert unsure.orders == 0


# Cancel


def test_a_cancel_in_post_copy_is_refused_with_words(desk: FakeDesk) -> None:
    desk.job.no_way_back(NO_WAY_BACK)

    with pytest.raises(Conflict) as refused:
        desk.runner.cancel(desk.job.op.id)

    assert (refused.value.code, refused.value.cause) == ("NO_WAY_BACK", NO_WAY_BACK)
    assert not desk.store.cancel_requested(desk.job.op.id)


def test_one_that_can_still_be_cancelled_is(desk: FakeDesk) -> None:
    assert desk.runner.cancel(desk.job.op.id).cancel_requested


def test_ctrl_c_in_post_copy_is_answered_once(
    desk: FakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vms, "state", lambda *_: (None, "post_copy", True))
    move = FakeMove(1, 2)
    switch = a_switch(desk, move)
    while not switch.asked():
        switch.saw(move.stats())
    switch.saw(move.stats())
    desk.job.request_cancel()
    switch.saw(move.stats())
    assert desk.said()[-2:] == ["move the VM: switched to post-copy", NO_WAY_BACK]
    assert not desk.job.cancelled()
    assert not desk.job.cancel_refused()


@pytest.mark.parametrize("what", ["cancel", "stall", "silence"])
@pytest.mark.parametrize("committed", [True, False])
def test_nothing_stops_a_move_in_post_copy(desk: FakeDesk, what: str, committed: bool) -> None:
    move = FakeMove(3, ends_after=100, clock=desk.clock)
    if what == "cancel":
        desk.job.request_cancel()
    if committed:
        desk.job.no_way_back(NO_WAY_BACK)
    end = cast(Connection, FakeEnd(alive=what != "silence"))

    def watch() -> None:
        watch_move(
            desk.job,
            cast(Move, move),
            (end, end),
            stall_s=1 if what == "stall" else 100,
            committed=lambda: committed,
        )

    if committed:
        watch()
    else:
        with pytest.raises(TwinshipError):
            watch()
    assert move.aborted is not committed


# Recovery


def test_a_broken_link_is_tried_again_for_ever_with_growing_waits(
    desk: FakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = itertools.count()
    monkeypatch.setattr(halves, "at_rest", lambda *_: HALVES if next(tries) < 40 else ARRIVED)

    def fails(*_: object) -> None:
        raise BROKE

    monkeypatch.setattr(halves, "go_on", fails)
    rejoin(desk.job, NO_HOSTS, SPEC, BROKE)

    assert desk.clock.waits == [1, 2, 4, 8, 16] + [30] * 35
    waiting = [op for op in desk.seen if op.waiting_for]
    assert {op.state.value for op in waiting} == {"waiting"}
    assert waiting[0].waiting_for.startswith("link broken, next try in 1 s (failed in post-copy")
    assert (desk.job.op.state.value, desk.job.op.waiting_for) == ("running", "")


@pytest.mark.parametrize(
    ("sides", "code"),
    [
        (Sides(source=Side.SERVING, target=Side.ABSENT), "HYPERVISOR"),
        (Sides(source=Side.HALF, target=Side.ABSENT), "POST_COPY_BROKEN"),
        (Sides(source=Side.HALF, target=Side.UNSEEN), "POST_COPY_BROKEN"),
    ],
    ids=["it never switched", "a half is gone", "a side is unseen"],
)
def test_what_no_try_can_mend_is_handed_on_untouched(
    desk: FakeDesk, monkeypatch: pytest.MonkeyPatch, sides: Sides, code: str
) -> None:
    monkeypatch.setattr(halves, "at_rest", lambda *_: sides)
    monkeypatch.setattr(halves, "go_on", lambda *_: pytest.fail("nothing may be tried"))

    with pytest.raises(TwinshipError) as raised:
        rejoin(desk.job, NO_HOSTS, SPEC, BROKE)

    assert raised.value.code == code


def test_a_second_ctrl_c_leaves_it_waiting(desk: FakeDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise BROKE

    monkeypatch.setattr(halves, "at_rest", lambda *_: HALVES)
    monkeypatch.setattr(halves, "go_on", fails)
    desk.job.no_way_back(NO_WAY_BACK)
    desk.clock.at(5, desk.job.request_cancel)
    desk.clock.at(100, desk.job.request_cancel)

    with pytest.raises(TwinshipError) as raised:
        rejoin(desk.job, NO_HOSTS, SPEC, BROKE)

    assert raised.value.code == "POST_COPY_BROKEN"
    assert NO_WAY_BACK in desk.said()
    assert desk.clock.elapsed == pytest.approx(121, abs=30)


class FakeHosts:
    """Two hosts of which nothing but the VM's state is asked."""

    def connection(self, name: str) -> str:
        return name


def test_a_move_that_goes_on_by_itself_is_not_asked_to_again(
    desk: FakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU needs no controller for it; libvirt would refuse, and nothing has broken."""
    monkeypatch.setattr(vms, "state", lambda *_: (None, "post_copy", False))
    spec = {**SPEC, "source": "lab1", "target": "lab2"}

    with pytest.raises(TwinshipError, match="still on its way"):
        halves.go_on(desk.job, cast(Hosts, FakeHosts()), spec)

    assert desk.job.notes("move") == {}


def test_after_a_restart_one_try_is_made_and_then_the_engine_waits(
    desk: FakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a command that settles what was left is never held up by a link that is away."""
    tries = []

    def fails(*_: object) -> None:
        tries.append(1)
        raise BROKE

    monkeypatch.setattr(settle, "at_rest", lambda *_: HALVES)
    monkeypatch.setattr(settle, "go_on", fails)

    with pytest.raises(HostUnreachable) as waits:
        settle.act(desk.job, NO_HOSTS, SPEC, "move")

    assert len(tries) == 1
    assert "failed in post-copy phase" in waits.value.cause


def test_a_move_that_ended_while_it_was_tried_again_is_over(
    desk: FakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = iter([HALVES, ARRIVED, ARRIVED])

    def fails(*_: object) -> None:
        raise BROKE

    monkeypatch.setattr(settle, "at_rest", lambda *_: next(seen))
    monkeypatch.setattr(settle, "go_on", fails)

    assert settle.act(desk.job, NO_HOSTS, SPEC, "move") is Decision.FORWARD
