"""Asking many hosts at once: a dead one costs its own answer and nobody else's."""

from __future__ import annotations

import threading

from twinship.clock import SystemClock
from twinship.inventory.parallel import ask_all
from twinship.model.errors import HostUnreachable, NotFound, TwinshipError
from twinship.model.host import HostRecord

HOSTS = tuple(HostRecord(name=f"kvm{n:02}", uri="test:///") for n in range(1, 6))


def test_every_host_answers_for_itself() -> None:
    answers = ask_all(HOSTS, lambda record: record.name.upper(), timeout_s=5, clock=SystemClock())

    assert answers == {record.name: record.name.upper() for record in HOSTS}


def test_nobody_is_asked_when_there_is_nobody() -> None:
    assert ask_all((), lambda record: record.name, timeout_s=5, clock=SystemClock()) == {}


def test_hosts_are_asked_at_the_same_time() -> None:
    together = threading.Barrier(len(HOSTS))

    def ask(record: HostRecord) -> str:
        together.wait(5)
        return record.name

    answers = ask_all(HOSTS, ask, timeout_s=10, clock=SystemClock())

    assert set(answers.values()) == {record.name for record in HOSTS}


def test_an_error_of_one_host_hides_no_other() -> None:
    def ask(record: HostRecord) -> str:
        if record.name == "kvm02":
            raise NotFound("gone")
        if record.name == "kvm03":
            raise KeyError("a fault of ours")
        return record.name

    answers = ask_all(HOSTS, ask, timeout_s=5, clock=SystemClock())

    assert isinstance(answers["kvm02"], NotFound)
    broken = answers["kvm03"]
    assert isinstance(broken, TwinshipError)
    assert (broken.code, "a fault of ours" in broken.cause) == ("INTERNAL", True)
    assert answers["kvm01"] == "kvm01"


def test_a_host_that_never_answers_is_named_when_the_time_is_up() -> None:
    never = threading.Event()

    def ask(record: HostRecord) -> str:
        if record.name == "kvm04":
            never.wait(30)
        return record.name

    answers = ask_all(HOSTS, ask, timeout_s=0.2, clock=SystemClock())
    never.set()

    silent = answers["kvm04"]
    assert isinstance(silent, HostUnreachable)
    assert "0.2 s" in silent.cause
    assert "kvm04" in silent.hint
    others = {name for name, answer in answers.items() if answer == name}
    assert others == {"kvm01", "kvm02", "kvm03", "kvm05"}
