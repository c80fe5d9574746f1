"""How far a guest's clock is behind ours, asked of its agent."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import FakeClock
from twinship.hypervisor import agent
from twinship.model.errors import HypervisorError


class FakeAgent:
    """Answers ``guest-get-time`` after so many seconds each, from a clock that is 5 s behind."""

    def __init__(self, clock: FakeClock, *takes_s: float) -> None:
        self.clock = clock
        self.takes_s = list(takes_s)
        self.asked = 0

    def __call__(self, *_: Any, **__: Any) -> int:
        self.asked += 1
        if not self.takes_s:
            raise HypervisorError("the agent does not answer", code="AGENT_SILENT")
        takes = self.takes_s.pop(0)
        self.clock.advance(takes / 2)
        told = int((self.clock.monotonic() - 5) * 1e9)
        self.clock.advance(takes / 2)
        return told


def lag(monkeypatch: pytest.MonkeyPatch, *takes_s: float) -> tuple[float | None, int]:
    clock = FakeClock()
    fake = FakeAgent(clock, *takes_s)
    monkeypatch.setattr(agent, "ask", fake)
    return agent.clock_lag(None, "uuid", clock), fake.asked  # type: ignore[arg-type]


def test_a_quick_agent_tells_the_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    told, asked = lag(monkeypatch, 0.01, 0.004, 0.02)

    assert told == pytest.approx(5, abs=1e-6)
    assert asked == 3


def test_a_slow_agent_is_asked_once_and_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lag(monkeypatch, 0.9, 0.9, 0.9) == (None, 1)


def test_a_silent_agent_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lag(monkeypatch) == (None, 1)


def test_one_good_answer_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    told, asked = lag(monkeypatch, 0.01, 0.9)

    assert told == pytest.approx(5, abs=1e-6)
    assert asked == 2
