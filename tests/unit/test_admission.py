"""Who may work: leases and take-overs, slots and queues, specs of other versions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import a_plan, an_operation
from tests.fakes import FakeProcesses, an_error
from tests.unit.test_engine import EVERYTHING, LEASE_S, Desk, State
from twinship.model.errors import Busy, Cancelled, UsageError
from twinship.model.operation import Operation
from twinship.operations import owner
from twinship.operations.job import Job
from twinship.operations.owner import Life, Processes
from twinship.operations.verb import Decision, Verdict
from twinship.store.database import Database
from twinship.store.operations import LostOwnership


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = Database(tmp_path_factory.mktemp("admission") / "twinship.db")
    yield opened
    opened.close()


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    made = Desk(database, FakeProcesses())
    yield made
    made.tidy()


def submit(desk: Desk, vm: str, *slots: str) -> Job:
    desk.clock.advance(0.001)  # who came first is told by the time
    return desk.engine.submit(a_plan(f"vm/{vm}", slots=slots))


def admit(desk: Desk, job: Job) -> str:
    return job.admit({"in": 2, "total": 3}, desk.processes.now())


# Slots


def test_a_host_takes_only_so_many_moves_and_the_next_is_told_why(desk: Desk) -> None:
    first, second, third = (submit(desk, name, "in/kvm02") for name in "abc")

    assert [admit(desk, first), admit(desk, second)] == ["", ""]
    assert admit(desk, third) == "kvm02 takes 2 moves at a time, 2 running"

    stored = desk.store.get(third.op.id)
    assert (stored.state, stored.waiting_for) == (
        State.QUEUED,
        "kvm02 takes 2 moves at a time, 2 running",
    )


def test_a_slot_that_comes_free_goes_to_who_came_first(desk: Desk) -> None:
    jobs = [submit(desk, name, "in/kvm02") for name in "abcd"]
    for job in jobs[:2]:
        assert admit(desk, job) == ""
    jobs[0].set_state(State.SUCCEEDED)

    assert admit(desk, jobs[3]) == "kvm02 takes 2 moves at a time, 1 running, 1 before this one"
    assert admit(desk, jobs[2]) == ""


def test_who_is_gone_from_the_queue_holds_nobody_up(desk: Desk) -> None:
    jobs = [submit(desk, name, "in/kvm02") for name in "abcd"]
    for job in jobs[:2]:
        assert admit(desk, job) == ""
    jobs[0].set_state(State.SUCCEEDED)
    desk.processes.time = LEASE_S + 1
    jobs[3].renew()

    assert admit(desk, jobs[3]) == ""


def test_an_operation_that_waits_for_a_silent_host_keeps_no_slot(desk: Desk) -> None:
    jobs = [submit(desk, name, "in/kvm02", "out/kvm01") for name in "abc"]
    for job in jobs[:2]:
        assert admit(desk, job) == ""
    jobs[0].set_state(State.WAITING)

    assert admit(desk, jobs[2]) == ""


@pytest.mark.parametrize(
    ("slot", "limit", "words"),
    [
        ("in/kvm02", 1, "kvm02 takes 1 move at a time, 1 running"),
        ("out/kvm01", 1, "kvm01 gives 1 move at a time, 1 running"),
        ("pool/kvm01/default", 1, "pool default on kvm01 takes 1 copy at a time, 1 running"),
        ("total", 1, "there are 1 operations at a time, 1 running"),
    ],
)
def test_every_limit_has_words(desk: Desk, slot: str, limit: int, words: str) -> None:
    first, second = submit(desk, "a", slot), submit(desk, "b", slot)
    limits = {slot.partition("/")[0]: limit}
    assert first.admit(limits, 0.0) == ""
    assert second.admit(limits, 0.0) == words


def test_a_queued_operation_can_be_cancelled_and_has_done_nothing(desk: Desk) -> None:
    holders = [submit(desk, name, "in/kvm02") for name in "ab"]
    for job in holders:
        admit(desk, job)
    third = submit(desk, "c", "in/kvm02")
    desk.clock.at(1.0, third.request_cancel)

    op = desk.engine.run(third, patience_s=60)

    assert op.state is State.CANCELLED
    assert op.error is not None
    assert op.error["code"] == Cancelled.default_code
    assert desk.world.log == []


def test_a_queued_operation_begins_by_itself_when_a_slot_comes_free(desk: Desk) -> None:
    holders = [submit(desk, name, "in/kvm02") for name in "ab"]
    for job in holders:
        admit(desk, job)
    third = submit(desk, "c", "in/kvm02")
    desk.clock.at(2.0, lambda: holders[0].set_state(State.SUCCEEDED))

    op = desk.engine.run(third, patience_s=60)

    assert op.state is State.SUCCEEDED
    assert desk.clock.elapsed >= 2.0
    assert op.waiting_for == ""


# Claims that are shared


def test_one_vm_is_read_by_several_and_changed_by_none_meanwhile(desk: Desk) -> None:
    one = desk.submit("read:vm/web", "name/kvm01/a")
    desk.submit("read:vm/web", "name/kvm01/b")
    with pytest.raises(Busy) as busy:
        desk.submit("vm/web")
    assert busy.value.resource == "vm/web"
    assert one.op.id in busy.value.message or "vm" in busy.value.message


def test_a_vm_that_is_changed_is_read_by_nobody(desk: Desk) -> None:
    desk.submit("vm/web")
    with pytest.raises(Busy):
        desk.submit("read:vm/web")


def test_what_is_promised_is_listed_by_its_beginning(desk: Desk) -> None:
    desk.submit("name/kvm01/a", "name/kvm01/b", "name/kvm02/c", "name/kvm0_1/d")
    assert desk.store.claimed("name/kvm01/") == {"a", "b"}
    assert desk.store.claimed("name/kvm0_1/") == {"d"}


# Leases


def test_an_owner_that_stands_still_is_ended_before_its_operation_is_taken(desk: Desk) -> None:
    job = desk.submit()
    admit(desk, job)
    stopped = desk.processes.me()
    desk.processes.also(2)
    assert desk.engine.orphans() == ()

    desk.processes.time = LEASE_S + 1
    assert [op.id for op in desk.engine.orphans()] == [job.op.id]
    taken = desk.engine.take_over(desk.store.get(job.op.id))

    assert desk.processes.ended == [stopped]
    assert taken.op.owner == desk.processes.me()
    with pytest.raises(LostOwnership):
        job.record("intent", "a")
    with pytest.raises(LostOwnership):
        job.renew()


def test_a_renewed_lease_is_kept(desk: Desk) -> None:
    job = desk.submit()
    desk.processes.time = LEASE_S - 1
    job.renew()
    desk.processes.time = LEASE_S + 1
    assert desk.engine.orphans() == ()


def test_a_job_told_that_it_is_lost_stops_at_its_next_look(desk: Desk) -> None:
    job = desk.submit()
    job.no_way_back()
    job.lose()
    with pytest.raises(LostOwnership):
        job.raise_if_cancelled()


def test_one_left_to_a_worker_is_no_orphan_while_the_worker_is_on_its_way(desk: Desk) -> None:
    real = Processes(desk.processes.now)
    op = an_operation(owner="", lease_until=LEASE_S)
    assert real.life(op) is Life.ALIVE
    desk.processes.time = LEASE_S + 1
    assert real.life(op) is Life.GONE


def an_owned(lease_until: float, owner_name: str) -> Operation:
    return an_operation(owner=owner_name, lease_until=lease_until)


def test_what_is_known_of_a_real_process() -> None:
    here = Processes(lambda: 100.0)
    shared = Processes(lambda: 100.0, shared=True)
    assert here.life(an_owned(101.0, owner.this_process())) is Life.ALIVE
    assert here.life(an_owned(99.0, owner.this_process())) is Life.LAPSED
    other_boot = "00000000-0000-0000-0000-000000000000:1:1"
    assert here.life(an_owned(101.0, other_boot)) is Life.GONE
    assert shared.life(an_owned(101.0, other_boot)) is Life.ALIVE
    assert shared.life(an_owned(99.0, other_boot)) is Life.GONE


def test_a_stopped_process_is_ended_for_good() -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        boot = owner.this_process().partition(":")[0]
        start = Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()[19]
        name = f"{boot}:{sleeper.pid}:{start}"
        os.kill(sleeper.pid, signal.SIGSTOP)
        began = time.monotonic()
        Processes(time.monotonic).end(name)
        assert time.monotonic() - began < 5
        assert sleeper.wait(5) == -signal.SIGKILL
    finally:
        sleeper.kill()
        sleeper.wait()


def test_another_process_with_the_number_of_a_dead_one_is_spared() -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        boot = owner.this_process().partition(":")[0]
        Processes(time.monotonic).end(f"{boot}:{sleeper.pid}:1")
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


# Other versions


def test_a_spec_of_an_older_version_is_brought_up_to_date_first(desk: Desk) -> None:
    job = desk.submit()
    desk.verb.schema = 2
    desk.processes.become(2)

    op = desk.engine.recover(desk.engine.take_over(desk.store.get(job.op.id)), patience_s=60)

    assert op.state is State.SUCCEEDED
    assert op.spec["upgraded_from"] == 1
    assert "upgraded" in desk.kinds(op)


def test_a_spec_of_a_newer_version_is_left_alone(desk: Desk) -> None:
    desk.verb.schema = 2
    job = desk.engine.submit(a_plan("vm/web", schema=2))
    desk.verb.schema = 1
    desk.processes.become(2)

    with pytest.raises(UsageError) as refused:
        desk.engine.take_over(desk.store.get(job.op.id))

    assert refused.value.code == "OPERATION_NEWER"
    assert desk.store.get(job.op.id).owner == job.op.owner


# Looking before doing again


def test_an_effect_that_is_there_is_not_made_twice(desk: Desk) -> None:
    def die_after(job: Job) -> None:
        desk.world.things.append("start")
        raise an_error("the answer was lost")

    desk.world.hooks["do start"] = die_after
    op = desk.run()

    assert op.state is State.SUCCEEDED
    assert desk.world.log.count("do start") == 1
    assert desk.world.things == EVERYTHING
    assert op.result == {"made": EVERYTHING}


# A person was called


def test_what_called_for_a_person_can_be_looked_at_again(desk: Desk) -> None:
    desk.world.troubles["do b"] = [an_error()]
    desk.verb.verdicts = [Verdict(decision=Decision.ATTENTION, reason="a riddle")]
    op = desk.run()
    assert op.state is State.NEEDS_ATTENTION

    again = desk.engine.recover(desk.engine.take_over(op), patience_s=60)

    assert again.state is State.FAILED
    assert desk.world.things == []
    assert desk.store.holder("vm/web") is None


def test_it_is_not_opened_again_while_another_works_on_the_vm(desk: Desk) -> None:
    desk.world.troubles["do b"] = [an_error()]
    desk.verb.verdicts = [Verdict(decision=Decision.ATTENTION, reason="a riddle")]
    op = desk.run()
    desk.submit("vm/web")

    with pytest.raises(Busy):
        desk.engine.take_over(op)
    assert desk.store.get(op.id).state is State.NEEDS_ATTENTION
