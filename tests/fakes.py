"""What cannot be had in a unit test: time that is driven, verbs without hosts, other processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from twinship.model.errors import HostUnreachable, TwinshipError
from twinship.model.operation import Operation
from twinship.operations.job import Job
from twinship.operations.owner import Life
from twinship.operations.verb import Decision, Phase, Verdict
from twinship.store.operations import OperationStore

START = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


class FakeClock:
    """Time stands still but for :meth:`advance` and :meth:`wait`; things can be put on its way."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.waits: list[float] = []
        self._due: list[tuple[float, Callable[[], None]]] = []

    def now(self) -> datetime:
        return START + timedelta(seconds=self.elapsed)

    def monotonic(self) -> float:
        return self.elapsed

    def wait(self, seconds: float, wake: threading.Event | None = None) -> bool:
        if wake is not None and wake.is_set():
            return True
        self.waits.append(seconds)
        self.advance(seconds)
        return wake is not None and wake.is_set()

    def advance(self, seconds: float) -> None:
        self.elapsed += seconds
        due = [call for at, call in self._due if at <= self.elapsed]
        self._due = [(at, call) for at, call in self._due if at > self.elapsed]
        for call in due:
            call()

    def at(self, seconds: float, call: Callable[[], None]) -> None:
        """Calls it once that much time has gone by."""
        self._due.append((seconds, call))


@dataclass
class FakeWorld:
    """What phases make, and how it is made to fail.

    ``troubles`` holds errors by deed (``"do b"``, ``"undo a"``, ``"look"``), each raised once, in
    order; ``hooks`` are called by the deed's name, before it takes effect.
    """

    things: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    troubles: dict[str, list[Exception]] = field(default_factory=dict)
    hooks: dict[str, Callable[[Job], None]] = field(default_factory=dict)
    unreachable: bool = False

    def act(self, deed: str, job: Job) -> None:
        """Goes by before every deed; raises what was ordered."""
        if self.unreachable and not deed.startswith("do "):
            raise HostUnreachable("kvm01 does not answer", cause="no route to host")
        self.log.append(deed)
        if deed in self.hooks:
            self.hooks[deed](job)
        if self.troubles.get(deed):
            raise self.troubles[deed].pop(0)


@dataclass(frozen=True)
class FakePhase:
    """Makes one thing, or takes it away; looks first, like every phase."""

    world: FakeWorld
    name: str
    last: bool = False
    total: int = 100

    @property
    def title(self) -> str:
        return f"make {self.name}"

    def do(self, job: Job) -> dict[str, Any]:
        self.world.act(f"do {self.name}", job)
        for done in (self.total // 2, self.total):
            job.progress.bytes(done, self.total)
        if self.name not in self.world.things:
            self.world.things.append(self.name)
        if self.last:
            job.no_way_back()
        return {"made": self.name}

    def observe(self, job: Job) -> dict[str, Any] | None:
        self.world.act(f"observe {self.name}", job)
        return {"made": self.name} if self.name in self.world.things else None

    def undo(self, job: Job) -> None:
        self.world.act(f"undo {self.name}", job)
        if self.name in self.world.things:
            self.world.things.remove(self.name)

    def leftover(self) -> str:
        return f"{self.name} on kvm01"


@dataclass
class FakeVerb:
    """Makes things one after the other; once ``define`` is there it only goes forward."""

    world: FakeWorld
    names: Sequence[str] = ("a", "b", "define", "start")
    kind: str = "fake"
    verdicts: list[Verdict] = field(default_factory=list)
    broken_results: int = 0
    schema: int = 1

    def upgraded(self, spec: dict[str, Any]) -> dict[str, Any]:
        return {**spec, "schema": self.schema, "upgraded_from": spec.get("schema", 1)}

    def phases(self, spec: dict[str, Any]) -> Sequence[Phase]:
        return [FakePhase(self.world, name, last=name == "define") for name in self.names]

    def reconcile(self, job: Job) -> Verdict:
        self.world.act("look", job)
        if self.verdicts:
            return self.verdicts.pop(0)
        if "define" in self.world.things:
            return Verdict(decision=Decision.FORWARD, reason="it is defined")
        return Verdict(decision=Decision.BACK, reason="it is not defined")

    def result(self, job: Job) -> dict[str, Any]:
        if self.broken_results > 0:
            self.broken_results -= 1
            raise KeyError("a fault of ours")
        return {"made": [data["made"] for data in job.outcomes().values()]}


class FakePowerCut(BaseException):
    """The process is gone, at this very point."""


class FakeDyingStore(OperationStore):
    """A store whose process dies at its n-th write, before or after it is committed."""

    dies_at: int = 0
    before: bool = True
    writes: int = 0

    def append(self, *arguments: Any, **named: Any) -> None:
        self._count(before=True)
        super().append(*arguments, **named)
        self._count(before=False)

    def update(self, *arguments: Any, **named: Any) -> Operation:
        self._count(before=True)
        changed = super().update(*arguments, **named)
        self._count(before=False)
        return changed

    def _count(self, *, before: bool) -> None:
        if before:
            self.writes += 1
        if self.writes == self.dies_at and before == self.before:
            raise FakePowerCut


class FakeProcesses:
    """Which process this is, which still live, and a clock for their leases."""

    def __init__(self) -> None:
        self.current = "boot:1:1"
        self.living = {self.current}
        self.ended: list[str] = []
        self.time = 0.0

    def become(self, number: int) -> None:
        """This process is gone; another one runs on."""
        self.current = f"boot:{number}:{number}"
        self.living = {self.current}

    def also(self, number: int) -> None:
        """Another process runs beside the others, and is the one that acts from now on."""
        self.current = f"boot:{number}:{number}"
        self.living.add(self.current)

    def now(self) -> float:
        return self.time

    def me(self) -> str:
        return self.current

    def life(self, op: Operation) -> Life:
        if op.owner not in self.living:
            return Life.GONE
        return Life.ALIVE if op.lease_until > self.time else Life.LAPSED

    def end(self, owner: str) -> None:
        self.ended.append(owner)
        self.living.discard(owner)


def an_error(message: str = "it broke") -> TwinshipError:
    return TwinshipError(message, code="BROKE", cause="the disk said no", hint="try another")
