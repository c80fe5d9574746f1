"""The engine over a real database: whatever happens, an operation ends done, undone or named."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.builders import a_plan
from tests.fakes import (
    FakeClock,
    FakeDyingStore,
    FakePowerCut,
    FakeProcesses,
    FakeVerb,
    FakeWorld,
    an_error,
)
from twinship.model.errors import (
    Busy,
    Cancelled,
    Conflict,
    HostUnreachable,
    TwinshipError,
    UsageError,
)
from twinship.model.operation import Operation, OperationState
from twinship.operations.engine import Engine
from twinship.operations.job import Job
from twinship.operations.verb import Decision, Verdict
from twinship.store.database import Database
from twinship.store.operations import LostOwnership, OperationStore

EVERYTHING = ["a", "b", "define", "start"]
VM = "vm/web"
State = OperationState
LEASE_S = 20.0


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = Database(tmp_path_factory.mktemp("engine") / "twinship.db")
    yield opened
    opened.close()


@pytest.fixture
def processes() -> FakeProcesses:
    return FakeProcesses()


@pytest.fixture
def desk(database: Database, processes: FakeProcesses) -> Iterator[Desk]:
    made = Desk(database, processes)
    yield made
    made.tidy()


@dataclass
class Desk:
    """One engine with its fakes, and words for what the tests do with it."""

    database: Database
    processes: FakeProcesses
    world: FakeWorld = field(default_factory=FakeWorld)
    clock: FakeClock = field(default_factory=FakeClock)
    seen: list[Operation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = OperationStore(self.database)
        self.verb = FakeVerb(self.world)
        self.engine = self.engine_on(self.store)

    def engine_on(self, store: OperationStore) -> Engine:
        return Engine(
            store,
            {"fake": self.verb},
            self.clock,
            self.processes,
            lease_s=LEASE_S,
            limits={"in": 2, "total": 3},
        )

    def submit(self, *resources: str) -> Job:
        return self.engine.submit(a_plan(*(resources or (VM,))), self.seen.append)

    def run(self, job: Job | None = None, *, patience_s: float = 60) -> Operation:
        return self.engine.run(job or self.submit(), patience_s=patience_s)

    def crash(self, *, at_write: int, before: bool) -> Operation | None:
        """Runs an operation in a process that dies there; None when it ended before that."""
        store = FakeDyingStore(self.database)
        store.dies_at, store.before = at_write, before
        job = self.engine_on(store).submit(a_plan(VM))
        try:
            self.engine_on(store).run(job, patience_s=60)
        except FakePowerCut:
            return self.store.get(job.op.id)
        return None

    def recover(self, operation_id: str, *, as_process: int, patience_s: float = 60) -> Operation:
        self.processes.become(as_process)
        job = self.engine.take_over(self.store.get(operation_id))
        return self.engine.recover(job, patience_s=patience_s)

    def states(self) -> list[OperationState]:
        return [state for state, _ in itertools.groupby(op.state for op in self.seen)]

    def kinds(self, op: Operation) -> list[str]:
        return [event.kind for event in self.store.events(op.id)]

    def tidy(self) -> None:
        """Ends what a test left unfinished: the database is shared."""
        for op in self.store.all(unfinished=True):
            taken = self.store.take_over(op.id, op.fence, "tidy", 0.0, self.clock.now())
            self.store.update(taken, self.clock.now(), state=State.FAILED)


def stored(desk: Desk, op: Operation) -> Operation:
    found = desk.store.get(op.id)
    assert found.state is op.state
    return found


# Done


def test_an_operation_does_its_phases_in_order_and_keeps_their_outcomes(desk: Desk) -> None:
    op = stored(desk, desk.run())

    assert op.state is State.SUCCEEDED
    assert desk.world.things == EVERYTHING
    assert op.result == {"made": EVERYTHING}
    assert op.error is None
    assert op.started is not None
    assert op.ended is not None


def test_every_effect_is_announced_before_and_recorded_after(desk: Desk) -> None:
    op = desk.run()
    journal = [(e.kind, e.phase) for e in desk.store.events(op.id) if e.phase]

    assert journal == [(kind, name) for name in EVERYTHING for kind in ("intent", "done")]


def test_an_intent_is_committed_before_its_effect_begins(desk: Desk) -> None:
    known: list[list[str]] = []
    desk.world.hooks["do b"] = lambda job: known.append(desk.kinds(job.op))
    desk.run()

    assert known[0][-3:] == ["intent", "done", "intent"]


def test_progress_never_goes_back_and_reaches_100_at_the_end_only(desk: Desk) -> None:
    desk.run()
    percents = [op.progress.percent for op in desk.seen if op.progress.percent is not None]

    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert [op.state for op in desk.seen if op.progress.percent == 100] == [State.SUCCEEDED]


def test_ids_sort_by_the_time_they_were_given(desk: Desk) -> None:
    ids = []
    for number in range(5):
        ids.append(desk.submit(f"vm/{number}").op.id)
        desk.clock.advance(1)

    assert ids == sorted(ids)
    assert {len(each) for each in ids} == {12}


# Undone


def test_an_error_undoes_what_was_begun_in_reverse_order(desk: Desk) -> None:
    desk.world.troubles["do b"] = [an_error()]
    op = stored(desk, desk.run())

    assert op.state is State.FAILED
    assert desk.world.things == []
    assert desk.world.log == ["do a", "do b", "look", "undo b", "undo a"]
    assert op.error is not None
    assert (op.error["code"], op.error["cause"]) == ("BROKE", "the disk said no")


def test_an_error_keeps_its_kind_so_that_its_exit_code_can_be_told(desk: Desk) -> None:
    desk.world.troubles["do a"] = [Conflict("taken")]

    assert (desk.run().error or {})["kind"] == "Conflict"


def test_a_fault_of_ours_is_undone_like_any_error(desk: Desk) -> None:
    desk.world.troubles["do b"] = [ZeroDivisionError("oops")]
    op = desk.run()

    assert op.state is State.FAILED
    assert desk.world.things == []
    assert (op.error or {})["code"] == "INTERNAL"
    assert "ZeroDivisionError: oops" in (op.error or {})["cause"]


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("when", ["during", "just before"])
def test_a_cancel_at_any_phase_before_the_last_word_undoes_everything(
    desk: Desk, name: str, when: str
) -> None:
    def cancel(job: Job) -> None:
        job.request_cancel()
        if when == "during":
            job.raise_if_cancelled()

    desk.world.hooks[f"do {name}"] = cancel
    op = stored(desk, desk.run())

    assert op.state is State.CANCELLED
    assert desk.world.things == []
    assert State.CANCELLING in desk.states()


def test_a_cancel_before_the_first_phase_does_nothing_at_all(desk: Desk) -> None:
    job = desk.submit()
    job.request_cancel()

    assert desk.run(job).state is State.CANCELLED
    assert [deed for deed in desk.world.log if deed.startswith("do")] == []


def test_another_process_can_cancel(desk: Desk) -> None:
    desk.world.hooks["do a"] = lambda job: desk.store.request_cancel(job.op.id)
    desk.world.hooks["do b"] = lambda job: desk.clock.advance(1)
    op = desk.run()

    assert op.state is State.CANCELLED
    assert desk.world.things == []


@pytest.mark.parametrize("name", ["define", "start"])
def test_a_cancel_after_the_point_of_no_return_is_not_heard(desk: Desk, name: str) -> None:
    desk.world.hooks[f"do {name}"] = lambda job: job.request_cancel()

    assert desk.run().state is State.SUCCEEDED
    assert desk.world.things == EVERYTHING


def test_after_the_point_of_no_return_an_error_goes_forward(desk: Desk) -> None:
    desk.world.troubles["do start"] = [an_error()]
    op = stored(desk, desk.run())

    assert op.state is State.SUCCEEDED
    assert op.error is None
    assert desk.world.log == [
        "do a",
        "do b",
        "do define",
        "do start",
        "look",
        "observe start",
        "do start",
    ]


# What cannot be undone at once


def test_undoing_is_tried_again_before_a_person_is_called(desk: Desk) -> None:
    desk.world.troubles["do b"] = [an_error()]
    desk.world.troubles["undo a"] = [an_error("still busy"), an_error("still busy")]
    op = stored(desk, desk.run())

    assert op.state is State.FAILED
    assert desk.world.things == []
    assert desk.kinds(op).count("settling_failed") == 2
    assert len(desk.clock.waits) == 2


def test_what_was_undone_is_not_undone_twice(desk: Desk) -> None:
    desk.world.troubles["do define"] = [an_error()]
    desk.world.troubles["undo a"] = [an_error()]
    desk.run()

    assert desk.world.log.count("undo b") == 1
    assert desk.world.log.count("undo a") == 2


def test_what_can_never_be_undone_is_named_and_left_to_a_person(desk: Desk) -> None:
    desk.world.troubles["do b"] = [an_error()]
    desk.world.troubles["undo a"] = [an_error("read-only") for _ in range(50)]
    op = stored(desk, desk.run())

    assert op.state is State.NEEDS_ATTENTION
    assert op.leftovers == ("a on kvm01",)
    assert "read-only" in op.waiting_for
    assert op.ended is not None
    assert desk.store.holder(VM) is None


def test_a_fault_of_ours_while_undoing_ends_with_a_person_too(desk: Desk) -> None:
    desk.world.troubles["do b"] = [an_error()]
    desk.world.troubles["undo a"] = [KeyError("oops") for _ in range(50)]
    op = stored(desk, desk.run())

    assert op.state is State.NEEDS_ATTENTION
    assert op.leftovers == ("a on kvm01",)


def test_a_fault_of_ours_in_the_result_does_not_leave_the_operation_running(desk: Desk) -> None:
    desk.verb.broken_results = 50

    assert stored(desk, desk.run()).state is State.NEEDS_ATTENTION
    assert desk.world.things == EVERYTHING


def test_a_verdict_of_attention_touches_nothing(desk: Desk) -> None:
    desk.world.troubles["do b"] = [an_error()]
    desk.verb.verdicts = [
        Verdict(decision=Decision.ATTENTION, reason="two of them", leftovers=("VM web on kvm02",))
    ]
    op = stored(desk, desk.run())

    assert op.state is State.NEEDS_ATTENTION
    assert op.leftovers == ("VM web on kvm02",)
    assert desk.world.things == ["a"]
    assert not [deed for deed in desk.world.log if deed.startswith("undo")]


def cut_off(desk: Desk) -> Callable[[Job], None]:
    def cut(_job: Job) -> None:
        desk.world.unreachable = True
        raise HostUnreachable("kvm01 does not answer")

    return cut


def answer_again(desk: Desk) -> None:
    desk.world.unreachable = False


def test_while_a_host_is_silent_it_waits_names_what_is_left_and_goes_on_by_itself(
    desk: Desk,
) -> None:
    desk.world.hooks["do b"] = cut_off(desk)
    desk.clock.at(10, lambda: answer_again(desk))
    op = stored(desk, desk.run())

    waiting = [seen for seen in desk.seen if seen.state is State.WAITING]
    assert waiting
    assert waiting[0].leftovers == ("a on kvm01", "b on kvm01")
    assert waiting[0].waiting_for == "no route to host"
    assert op.state is State.FAILED
    assert op.leftovers == ()
    assert op.waiting_for == ""
    assert desk.world.things == []


def test_a_silent_host_in_the_middle_of_undoing_is_waited_for(desk: Desk) -> None:
    desk.world.troubles["do define"] = [an_error()]

    def cut(_job: Job) -> None:
        desk.world.hooks.pop("undo a")
        desk.world.unreachable = True
        raise HostUnreachable("kvm01 does not answer")

    desk.world.hooks["undo a"] = cut
    desk.clock.at(10, lambda: answer_again(desk))
    op = desk.run()

    assert next(seen.leftovers for seen in desk.seen if seen.state is State.WAITING) == (
        "a on kvm01",
    )
    assert op.state is State.FAILED
    assert desk.world.things == []
    assert desk.world.log.count("undo b") == 1


def test_long_waiting_does_not_use_up_the_tries_of_undoing(desk: Desk) -> None:
    desk.world.hooks["do b"] = cut_off(desk)
    desk.world.troubles["undo a"] = [an_error("busy")]
    desk.clock.at(30, lambda: answer_again(desk))

    assert desk.run().state is State.FAILED
    assert desk.world.things == []


def test_out_of_patience_it_stays_waiting_with_its_claims_until_somebody_goes_on(
    desk: Desk,
) -> None:
    desk.world.hooks["do b"] = cut_off(desk)
    op = stored(desk, desk.run(patience_s=20))

    assert op.state is State.WAITING
    assert op.owner == ""
    assert desk.clock.elapsed < 30
    assert desk.store.holder(VM) == op.id
    assert desk.engine.orphans() == (desk.store.get(op.id),)

    answer_again(desk)
    ended = desk.recover(op.id, as_process=2)

    assert ended.state is State.FAILED
    assert desk.world.things == []
    assert desk.store.holder(VM) is None


def test_out_of_patience_with_an_undo_that_fails_it_says_what_it_waits_for(desk: Desk) -> None:
    desk.world.troubles["do b"] = [an_error()]
    desk.world.troubles["undo a"] = [an_error("busy") for _ in range(50)]
    op = stored(desk, desk.run(patience_s=0))

    assert op.state is State.WAITING
    assert "busy" in op.waiting_for
    assert op.leftovers == ("a on kvm01",)


def test_a_second_cancel_ends_the_waiting_but_not_the_operation(desk: Desk) -> None:
    job = desk.submit()

    def cut(job: Job) -> None:
        desk.world.unreachable = True
        job.request_cancel()
        job.raise_if_cancelled()

    desk.world.hooks["do b"] = cut
    desk.clock.at(5, job.request_cancel)
    op = stored(desk, desk.run(job, patience_s=10_000))

    assert op.state is State.WAITING
    assert desk.clock.elapsed < 20

    answer_again(desk)
    assert desk.recover(op.id, as_process=2).state is State.CANCELLED
    assert desk.world.things == []


# Crashes


def writes_of_a_run(desk: Desk) -> int:
    store = FakeDyingStore(desk.database)
    job = desk.engine_on(store).submit(a_plan("vm/counted"))
    desk.engine_on(store).run(job, patience_s=60)
    desk.world.things.clear()
    return store.writes


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("trouble", ["", "do b", "do start"])
def test_a_process_that_dies_at_any_write_is_recovered_by_another(
    desk: Desk, before: bool, trouble: str
) -> None:
    for number in range(1, 60):
        desk.world.things.clear()
        desk.world.troubles = {trouble: [an_error()]} if trouble else {}
        desk.processes.become(1)
        left = desk.crash(at_write=number, before=before)
        if left is None:
            break
        if left.state.ended:
            assert not before
            continue

        assert left.id in {op.id for op in orphans_of(desk, as_process=2)}
        op = desk.recover(left.id, as_process=2)

        assert_whole_or_nothing(desk, op)
        assert desk.store.holder(VM) is None
    else:
        pytest.fail("the run never ended")
    assert number > 8


def test_a_recovery_that_dies_at_any_write_is_recovered_in_its_turn(desk: Desk) -> None:
    for first, second in itertools.product(range(1, writes_of_a_run(desk), 2), range(1, 30, 3)):
        desk.world.things.clear()
        desk.processes.become(1)
        left = desk.crash(at_write=first, before=False)
        if left is None or left.state.ended:
            continue
        desk.processes.become(2)
        dying = FakeDyingStore(desk.database)
        dying.dies_at = second
        engine = desk.engine_on(dying)
        try:
            op = engine.recover(engine.take_over(left), patience_s=60)
        except FakePowerCut:
            op = desk.recover(left.id, as_process=3)

        assert_whole_or_nothing(desk, op)
        assert desk.store.holder(VM) is None


def orphans_of(desk: Desk, *, as_process: int) -> tuple[Operation, ...]:
    desk.processes.become(as_process)
    return desk.engine.orphans()


def assert_whole_or_nothing(desk: Desk, op: Operation) -> None:
    match op.state:
        case State.SUCCEEDED:
            assert sorted(desk.world.things) == sorted(EVERYTHING)
        case State.FAILED:
            assert desk.world.things == []
        case _:
            pytest.fail(f"ended {op.state}")


def test_a_crash_after_a_cancel_still_ends_cancelled(desk: Desk) -> None:
    desk.world.hooks["do b"] = lambda job: desk.store.request_cancel(job.op.id)
    left = desk.crash(at_write=7, before=True)
    assert left is not None
    assert left.cancel_requested

    op = desk.recover(left.id, as_process=2)

    assert op.state is State.CANCELLED
    assert desk.world.things == []


def test_once_it_goes_forward_a_cancel_is_not_heard_by_the_next_process_either(
    desk: Desk,
) -> None:
    def cancel(job: Job) -> None:
        job.request_cancel()
        job.raise_if_cancelled()

    def die(_job: Job) -> None:
        raise FakePowerCut

    desk.world.hooks["do start"] = die
    job = desk.submit()
    with pytest.raises(FakePowerCut):
        desk.run(job)
    desk.world.hooks["do start"] = cancel

    assert desk.recover(job.op.id, as_process=2).state is State.SUCCEEDED
    assert desk.world.things == EVERYTHING


def test_an_operation_left_to_a_worker_is_run_by_it_from_the_start(desk: Desk) -> None:
    job = desk.engine.submit(a_plan(VM), owned=False)

    assert desk.recover(job.op.id, as_process=2).state is State.SUCCEEDED
    assert desk.world.things == EVERYTHING


def test_a_kind_this_version_does_not_know_is_said(desk: Desk) -> None:
    job = desk.engine.submit(a_plan("vm/x", kind="later"))

    with pytest.raises(TwinshipError) as unknown:
        desk.engine.run(job, patience_s=1)
    assert unknown.value.code == "OPERATION_NEWER"


# Two owners


def test_an_owner_that_was_replaced_stops_at_its_next_write_and_undoes_nothing(
    desk: Desk,
) -> None:
    def lose(job: Job) -> None:
        desk.store.take_over(job.op.id, job.op.fence, "boot:2:2", LEASE_S, desk.clock.now())

    desk.world.hooks["do a"] = lose
    job = desk.submit()
    with pytest.raises(LostOwnership):
        desk.run(job)

    assert desk.world.log == ["do a"]
    with pytest.raises(LostOwnership):
        job.update(waiting_for="nothing")
    with pytest.raises(LostOwnership):
        job.record("note", "a")


def test_ownership_lost_while_undoing_stops_it_at_once(desk: Desk) -> None:
    def lose(job: Job) -> None:
        desk.store.take_over(job.op.id, job.op.fence, "boot:2:2", LEASE_S, desk.clock.now())

    desk.world.troubles["do define"] = [an_error()]
    desk.world.hooks["undo b"] = lose
    with pytest.raises(LostOwnership):
        desk.run()

    assert "undo a" not in desk.world.log


def test_of_two_that_take_over_the_quicker_one_has_it(desk: Desk) -> None:
    op = desk.submit().op
    desk.processes.become(2)
    taken = desk.engine.take_over(op).op

    with pytest.raises(LostOwnership):
        desk.store.take_over(op.id, op.fence, "boot:3:3", LEASE_S, desk.clock.now())
    assert desk.store.get(op.id).owner == taken.owner == "boot:2:2"
    assert taken.fence == op.fence + 1


def test_an_operation_whose_owner_lives_is_not_taken_from_it(desk: Desk) -> None:
    op = desk.submit().op
    desk.processes.also(2)

    with pytest.raises(UsageError) as refused:
        desk.engine.take_over(op)
    assert refused.value.code == "OPERATION_OWNED"
    assert desk.engine.orphans() == ()


def test_an_operation_that_has_ended_is_not_taken_over(desk: Desk) -> None:
    op = desk.run()

    with pytest.raises(UsageError) as refused:
        desk.engine.take_over(op)
    assert refused.value.code == "OPERATION_ENDED"


# Claims


def test_a_second_operation_on_the_same_vm_is_refused_by_the_name_of_the_first(
    desk: Desk,
) -> None:
    first = desk.submit(VM, "name/kvm01/web-clone").op

    with pytest.raises(Busy) as refused:
        desk.submit("vm/other", "name/kvm01/web-clone")

    assert first.id in refused.value.message
    assert first.title in refused.value.message
    assert desk.store.holder("vm/other") is None
    assert len(desk.store.all(unfinished=True)) == 1


@pytest.mark.parametrize("trouble", [None, an_error(), Cancelled("stop")])
def test_claims_are_given_back_whatever_the_end(desk: Desk, trouble: Exception | None) -> None:
    desk.world.troubles["do b"] = [trouble] if trouble else []
    op = desk.run(desk.submit(VM, "file/kvm01/a"))

    assert op.state.ended
    assert desk.store.holder(VM) is None
    assert desk.store.holder("file/kvm01/a") is None
    assert desk.run().state.ended
