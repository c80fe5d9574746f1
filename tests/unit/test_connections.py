"""Connections to hosts: one thread at a time on each, and none is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twinship.config import Config
from twinship.hypervisor import connection as module
from twinship.hypervisor.connection import Connection, Connections
from twinship.model.host import HostRecord

KVM01 = HostRecord(name="kvm01", uri="qemu:///system")


class FakeRaw:
    """As much of libvirt's connection as the pool looks at."""

    def __init__(self) -> None:
        self.open = True

    def isAlive(self) -> int:  # noqa: N802 - libvirt's name
        return int(self.open)

    def close(self) -> None:
        self.open = False


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Connections:
    def opened(_record: HostRecord, _config: Config) -> Any:
        return FakeRaw()

    monkeypatch.setattr(module, "_open_bounded", opened)
    return Connections(Config(state=tmp_path))


def in_thread(work: Callable[[], Connection]) -> Connection:
    """What the work returned in a thread that has ended."""
    box: list[Connection] = []
    thread = threading.Thread(target=lambda: box.append(work()))
    thread.start()
    thread.join()
    return box[0]


def test_a_thread_keeps_its_connection(pool: Connections) -> None:
    assert pool.get(KVM01) is pool.get(KVM01)


def test_two_threads_never_share_one(pool: Connections) -> None:
    mine = pool.get(KVM01)
    assert in_thread(lambda: pool.get(KVM01)) is not mine
    assert in_thread(mine.mine) is not mine


def test_what_an_ended_thread_had_is_used_again(pool: Connections) -> None:
    first = in_thread(lambda: pool.get(KVM01))
    assert pool.get(KVM01) is first


def test_what_was_released_is_used_again(pool: Connections) -> None:
    mine = pool.get(KVM01)
    pool.release()
    assert in_thread(lambda: pool.get(KVM01)) is mine
    assert pool.get(KVM01) is mine, "its user has ended"


def test_a_broken_connection_is_replaced(pool: Connections) -> None:
    broken = pool.get(KVM01)
    broken.raw.open = False
    assert pool.get(KVM01) is not broken


def test_another_address_is_another_connection(pool: Connections) -> None:
    old = pool.get(KVM01)
    assert pool.get(HostRecord(name="kvm01", uri="qemu+tls://kvm01/system")) is not old


def test_closing_closes_all(pool: Connections) -> None:
    every = [pool.get(KVM01), in_thread(lambda: pool.get(HostRecord(name="b", uri="qemu:///b")))]
    pool.close()
    assert [known.alive() for known in every] == [False, False]
