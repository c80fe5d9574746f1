"""What is said of a host that nobody could send to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.builders import a_usual_host
from tests.fakes import FakeClock
from twinship.model.host import HostRecord
from twinship.transfer.probe import way


def test_a_host_that_is_known_by_a_loopback_name_alone_needs_an_address() -> None:
    record = HostRecord(name="kvm02", uri="qemu+ssh://root@localhost/system")
    target: Any = SimpleNamespace(name="kvm02", record=record)
    source: Any = SimpleNamespace(name="kvm01")
    there = a_usual_host("kvm02").having(hostname="localhost.localdomain").facts()

    told = way(source, a_usual_host("kvm01").facts(), target, there, FakeClock())

    assert "twinship host add kvm02 qemu+ssh://root@localhost/system --address IP" in told
