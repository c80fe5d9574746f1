"""Many moves under way, over a real database: whatever happens, every VM is on one host."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.fakes import FakeClock, FakePowerCut, FakeProcesses, an_error
from twinship.migrate.together import MovesVerb
from twinship.model.errors import HostUnreachable
from twinship.model.operation import Operation, OperationState
from twinship.model.plan import Plan
from twinship.operations.engine import Engine
from twinship.operations.job import Job, Watch
from twinship.operations.verb import Decision, Phase, Verb, Verdict
from twinship.store.database import Database
from twinship.store.operations import OperationStore

State = OperationState
LIMITS = {"in": 2, "out": 2, "small": 2, "total": 16}
NAMES = ("a", "b", "c")


@dataclass
class FakeHosts:
    """Where each VM is; what goes wrong with whom; who is to be met in the middle of a move."""

    at: dict[str, set[str]] = field(default_factory=lambda: {name: {"one"} for name in NAMES})
    troubles: dict[str, Exception] = field(default_factory=dict)
    unseen: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    meet: dict[str, threading.Barrier] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    on_begin: Any = None


@dataclass(frozen=True)
class FakeStep:
    """``arrive``: it is on both, the target's is the true one. ``leave``: gone from the source."""

    hosts: FakeHosts
    vm: str
    name: str

    @property
    def title(self) -> str:
        return self.name

    def do(self, job: Job) -> dict[str, Any]:
        if self.name == "arrive":
            self.hosts.begun.append(self.vm)
            job.progress.bytes(50, 100)
            if self.hosts.on_begin is not None:
                self.hosts.on_begin(self.vm)
            if self.vm in self.hosts.meet:
                self.hosts.meet[self.vm].wait(10)
            job.raise_if_cancelled()
            if self.vm in self.hosts.troubles:
                raise self.hosts.troubles[self.vm]
            self.hosts.at[self.vm].add("two")
            job.no_way_back()
            job.progress.bytes(100, 100)
        else:
            self.hosts.at[self.vm].discard("one")
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None

    def undo(self, job: Job) -> None:
        if self.vm in self.hosts.unseen:
            raise HostUnreachable("two does not answer", cause="no route")
        self.hosts.at[self.vm].discard("two")

    def leftover(self) -> str:
        return f"half of {self.vm}"


@dataclass(frozen=True)
class FakeMove:
    """One VM's move."""

    hosts: FakeHosts
    kind: str = "migrate"
    schema: int = 1

    def upgraded(self, spec: dict[str, Any]) -> dict[str, Any]:
        return spec

    def phases(self, spec: dict[str, Any]) -> Sequence[Phase]:
        return [FakeStep(self.hosts, spec["vm"]["name"], name) for name in ("arrive", "leave")]

    def reconcile(self, job: Job) -> Verdict:
        vm = job.spec["vm"]["name"]
        if vm in self.hosts.unseen:
            return Verdict(decision=Decision.WAIT, reason="two cannot be seen", leftovers=("half",))
        if vm in self.hosts.stuck:
            return Verdict(decision=Decision.ATTENTION, reason="it is nowhere", leftovers=("it",))
        there = "two" in self.hosts.at[vm]
        return Verdict(decision=Decision.FORWARD if there else Decision.BACK, reason="seen")

    def result(self, job: Job) -> dict[str, Any]:
        return {"vm": job.spec["vm"]["name"]}


class FakeMortalStore(OperationStore):
    """A store whose process dies at its n-th write; nothing of it is written after that."""

    dies_at = 0
    before = True
    writes = 0
    dead = False
    _counting = threading.Lock()

    def append(self, *arguments: Any, **named: Any) -> None:
        with self._write():
            super().append(*arguments, **named)

    def update(self, *arguments: Any, **named: Any) -> Operation:
        with self._write():
            return super().update(*arguments, **named)

    def create(self, *arguments: Any, **named: Any) -> None:
        with self._write():
            super().create(*arguments, **named)

    @contextmanager
    def _write(self) -> Iterator[None]:
        with self._counting:
            self.writes += 1
            last = self.writes == self.dies_at
            self.dead = self.dead or (last and self.before)
            if self.dead:
                raise FakePowerCut
        yield
        if last:
            self.dead = True
            raise FakePowerCut


class FakeLookedInto(Engine):
    """An engine whose children can be looked at while they work."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.at_work: dict[str, Job] = {}

    def submit_child(self, parent: Operation, plan: Plan, watch: Watch) -> Job:
        job = super().submit_child(parent, plan, watch)
        self.at_work[job.op.id] = job
        return job


class FakeRealTime(FakeClock):
    """Waits give way to other threads."""

    def wait(self, seconds: float, wake: threading.Event | None = None) -> bool:
        threading.Event().wait(0.001)
        return super().wait(seconds, wake)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = Database(tmp_path_factory.mktemp("moves") / "twinship.db")
    yield opened
    opened.close()


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    made = Desk(database)
    yield made
    made.tidy()


class Desk:
    """An engine that knows moves, and words for what the tests do with it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.hosts = FakeHosts()
        self.clock = FakeRealTime()
        self.processes = FakeProcesses()
        self.store = OperationStore(database)
        self.engine = self.engine_on(self.store)
        self.seen: list[Operation] = []

    @property
    def at_work(self) -> dict[str, Job]:
        return dict(self.engine.at_work)

    def engine_on(self, store: OperationStore) -> FakeLookedInto:
        box: list[FakeLookedInto] = []
        moves = MovesVerb(engine=lambda: box[0], limits=LIMITS)
        verbs: dict[str, Verb] = {"migrate": FakeMove(self.hosts), "moves": moves}
        made = FakeLookedInto(store, verbs, self.clock, self.processes, lease_s=20, limits=LIMITS)
        box.append(made)
        return made

    def submit(self, engine: Engine | None = None, *, keep_going: bool = False) -> Job:
        return (engine or self.engine).submit(a_plan(keep_going), self.seen.append)

    def run(self, *, keep_going: bool = False, patience_s: float = 60) -> Operation:
        return self.engine.run(self.submit(keep_going=keep_going), patience_s=patience_s)

    def recover(self, op: Operation, *, patience_s: float = 60) -> Operation:
        job = self.engine.take_over(self.store.get(op.id))
        return self.engine.recover(job, patience_s=patience_s)

    def where(self) -> dict[str, str]:
        assert all(len(places) == 1 for places in self.hosts.at.values()), self.hosts.at
        return {name: next(iter(places)) for name, places in self.hosts.at.items()}

    def tidy(self) -> None:
        for op in self.store.all(unfinished=True):
            taken = self.store.take_over(op.id, op.fence, "tidy", 0.0, self.clock.now())
            self.store.update(taken, self.clock.now(), state=State.FAILED)


def a_plan(keep_going: bool, at_once: int = 3) -> Plan:
    load = {"source": "one", "target": "two", "memory_bytes": 100, "disk_bytes": 0}
    moves = [
        {
            "title": f"move {name}",
            "spec": {"schema": 1, "vm": {"name": name, "uuid": f"uuid-{name}"}},
            "load": {**load, "slots": ["small/one", "small/two", "total"]},
        }
        for name in NAMES
    ]
    spec = {"schema": 1, "moves": moves, "left": [], "keep_going": keep_going, "at_once": at_once}
    return Plan(
        kind="moves",
        title="move 3 VMs",
        checks=(),
        steps=(),
        estimate_s=None,
        resources=tuple(f"vm/uuid-{name}" for name in NAMES),
        spec=spec,
    )


def test_all_arrive(desk: Desk) -> None:
    op = desk.run()

    assert op.state is State.SUCCEEDED
    assert desk.where() == dict.fromkeys(NAMES, "two")
    assert op.result == {"vms": [{"vm": name} for name in NAMES], "failed": [], "left": []}
    assert {child.parent for child in desk.engine.children(op)} == {op.id}
    assert (op.progress.percent, op.progress.bytes_total) == (100.0, 300)
    percents = [each.progress.percent for each in desk.seen if each.progress.percent is not None]
    assert percents == sorted(percents)


def test_no_more_go_at_a_time_than_there_are_places(desk: Desk) -> None:
    # Two meet in the middle of their moves: they go at a time. The third comes after.
    meeting = threading.Barrier(2)
    desk.hosts.meet = {"a": meeting, "b": meeting}
    at_c: list[list[str]] = []
    desk.hosts.on_begin = lambda vm: (
        at_c.append([name for name in "ab" if "two" in desk.hosts.at[name]]) if vm == "c" else None
    )

    assert desk.run().state is State.SUCCEEDED
    assert desk.hosts.begun[2] == "c"
    assert at_c[0], "one had arrived"


def test_the_first_failure_stops_the_rest_and_what_arrived_stays(desk: Desk) -> None:
    job = desk.submit()

    def once_a_has_arrived(vm: str) -> None:
        while vm == "b" and "one" in desk.hosts.at["a"]:
            threading.Event().wait(0.002)

    desk.hosts.on_begin = once_a_has_arrived
    desk.hosts.troubles = {"b": an_error()}

    op = desk.engine.run(job, patience_s=60)

    assert op.state is State.SUCCEEDED, "part of it is done; the exit code says so"
    where = desk.where()
    assert (where["a"], where["b"]) == ("two", "one")
    assert op.result is not None
    failed = {lost["vm"]: lost for lost in op.result["failed"]}
    assert failed["b"]["error"]["code"] == "BROKE"
    assert failed["b"]["operation"] is not None
    assert {moved["vm"] for moved in op.result["vms"]} | set(failed) == set(NAMES)


def test_what_had_not_begun_is_told_as_such(desk: Desk) -> None:
    desk.hosts.troubles = {"b": an_error()}
    job = desk.engine.submit(a_plan(keep_going=False, at_once=1), desk.seen.append)

    op = desk.engine.run(job, patience_s=60)

    assert desk.where() == {"a": "two", "b": "one", "c": "one"}
    assert op.result is not None
    (broke, never) = op.result["failed"]
    assert (broke["vm"], never["vm"]) == ("b", "c")
    assert never["operation"] is None
    assert never["error"]["code"] == "NOT_BEGUN"


def test_with_keep_going_the_others_go_on(desk: Desk) -> None:
    desk.hosts.troubles = {"a": an_error()}

    op = desk.run(keep_going=True)

    assert desk.where() == {"a": "one", "b": "two", "c": "two"}
    assert op.result is not None
    assert [lost["vm"] for lost in op.result["failed"]] == ["a"]


def test_when_none_arrives_it_has_failed_with_the_first_reason(desk: Desk) -> None:
    desk.hosts.troubles = {name: an_error() for name in NAMES}

    op = desk.run(keep_going=True)

    assert op.state is State.FAILED
    assert op.error is not None
    assert op.error["code"] == "BROKE"
    assert desk.where() == dict.fromkeys(NAMES, "one")


def test_a_cancel_reaches_all_that_are_under_way_and_the_others_are_not_begun(desk: Desk) -> None:
    job = desk.submit()
    both = threading.Barrier(2)

    def cancelled_meanwhile(vm: str) -> None:
        both.wait(10)
        job.request_cancel()
        while not all(child.cancelled() for child in desk.at_work.values()):
            threading.Event().wait(0.002)

    desk.hosts.on_begin = cancelled_meanwhile

    op = desk.engine.run(job, patience_s=60)

    assert op.state is State.CANCELLED
    assert desk.where() == dict.fromkeys(NAMES, "one")
    assert sorted(desk.hosts.begun) == ["a", "b"]
    assert {child.state for child in desk.engine.children(op)} == {State.CANCELLED}


def test_while_a_host_is_silent_all_wait_and_are_settled_once_it_answers(desk: Desk) -> None:
    desk.hosts.troubles = {"b": an_error()}
    desk.hosts.unseen = {"b"}

    op = desk.run(keep_going=True, patience_s=1)

    assert op.state is State.WAITING
    assert op.leftovers == ("half",)
    assert desk.store.holder("vm/uuid-a") == op.id, "the claims stay"
    desk.hosts.unseen = set()
    done = desk.recover(op)
    assert done.state is State.SUCCEEDED
    assert desk.where() == {"a": "two", "b": "one", "c": "two"}


def test_one_that_is_for_a_person_makes_the_whole_so_and_can_be_resumed(desk: Desk) -> None:
    desk.hosts.troubles = {"b": an_error()}
    desk.hosts.stuck = {"b"}

    op = desk.run(keep_going=True)

    assert op.state is State.NEEDS_ATTENTION
    assert "2 of 3 VMs have arrived" in op.waiting_for
    assert op.leftovers == ("it",)
    desk.hosts.stuck = set()
    done = desk.recover(op)
    assert done.state is State.SUCCEEDED
    assert done.result is not None
    assert [lost["vm"] for lost in done.result["failed"]] == ["b"]


@pytest.mark.parametrize(
    ("before", "every"),
    [
        (False, 4),
        pytest.param(True, 1, marks=pytest.mark.all),
        pytest.param(False, 1, marks=pytest.mark.all),
    ],
)
def test_whenever_the_process_dies_every_vm_is_on_one_host(
    database: Database, before: bool, every: int
) -> None:
    ways = set()
    for at_write in range(1, 200, every):
        desk = Desk(database)
        store = FakeMortalStore(database)
        store.dies_at, store.before = at_write, before
        engine = desk.engine_on(store)
        try:
            job = desk.submit(engine)
        except FakePowerCut:
            stored = desk.store.all(unfinished=True)
            assert len(stored) == (0 if before else 1)
            desk.tidy()
            continue
        try:
            engine.run(job, patience_s=60)
        except FakePowerCut:
            pass
        else:
            break
        begun = list(desk.hosts.begun)
        desk.processes.become(2)
        done = desk.store.get(job.op.id)
        if not done.state.ended:  # it died with the very last line written
            done = desk.recover(job.op)
        where = desk.where()
        assert done.state.ended, at_write
        assert done.state is not State.NEEDS_ATTENTION
        assert all(child.state.ended for child in desk.engine.children(done))
        if job.op.started is not None or begun:
            never = set(NAMES) - set(begun)
            assert set(desk.hosts.begun) == set(begun), (
                "what had not begun is not begun by a recovery"
            )
            assert all(where[name] == "one" for name in never)
        moved = {each["vm"] for each in (done.result or {}).get("vms", [])}
        assert moved == {name for name, at in where.items() if at == "two"}
        assert all(desk.store.holder(f"vm/uuid-{name}") is None for name in NAMES)
        ways.add(len(moved))
    else:
        raise AssertionError("it never got through")
    assert len(ways) >= 3, "an early death and a late one come to different ends"
    assert max(ways) == 3
