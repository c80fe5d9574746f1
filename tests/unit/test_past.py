"""What earlier moves tell of a link, and what a forecast makes of it in words."""

from __future__ import annotations

from typing import Any

from tests.builders import GIB, a_move_of, a_vm, an_operation, move_request, new_ids
from twinship.migrate.facts import Past
from twinship.migrate.past import past
from twinship.migrate.plan import plan_migrate
from twinship.model.load import GuestLoad
from twinship.model.operation import Operation, OperationState

MIB = 2**20
WEB = a_vm("web").with_disk().running()


def a_move(rate: int, **changes: Any) -> Operation:
    result = {"rate": rate, "bytes_memory": 64 * MIB, "seconds": 2.0, "forecast": {"seconds": 1.0}}
    spec = {"source": "kvm01", "target": "kvm02", "rate": 0}
    fields: dict[str, Any] = {
        "kind": "migrate",
        "state": OperationState.SUCCEEDED,
        "result": result | changes.pop("result", {}),
        "spec": spec | changes.pop("spec", {}),
    }
    return an_operation(**(fields | changes))


def test_the_link_is_the_median_of_the_moves_that_filled_it() -> None:
    history = [
        a_move(300),
        a_move(100),
        a_move(200),
        a_move(9, result={"bytes_memory": MIB}),
        a_move(9, spec={"rate": 50}),
        a_move(9, spec={"target": "kvm03"}),
        a_move(9, state=OperationState.FAILED),
        a_move(9, kind="clone"),
        a_move(9, result={"post_copy": True, "recoveries": 1}),
    ]

    found = past(history, "kvm01", "kvm02")

    assert found.link == 200
    assert found.seconds[0] == (1.0, 2.0)
    assert past([], "kvm01", "kvm02") == Past()


def test_a_move_that_went_over_to_post_copy_tells_of_the_link_and_not_of_the_forecast() -> None:
    found = past([a_move(300, result={"post_copy": True, "recoveries": 0})], "kvm01", "kvm02")

    assert (found.link, found.seconds) == (300, ())


def forecast(load: GuestLoad | None, link: float, **request: Any) -> tuple[str, str]:
    facts = a_move_of(WEB, load=load, past=Past(link=link))
    told = plan_migrate(facts, move_request(**request), new_ids(0)).forecast
    assert told is not None
    return told.verdict, told.reason


BUSY = GuestLoad(cpu_share=1, memory_bytes=GIB, windows=((1.0, 4e8), (2.0, 2e8)))
IDLE = GuestLoad(cpu_share=0.01, memory_bytes=GIB)


def test_a_forecast_is_told_in_seconds_and_what_pause_would_do() -> None:
    assert forecast(IDLE, 1e9)[0] == "will"
    assert "with a pause of about" in forecast(IDLE, 1e9)[1]
    assert forecast(BUSY, 1e8)[0] == "will_not"
    assert "it would need 4" in forecast(BUSY, 1e8)[1]
    assert forecast(BUSY, 1e8, max_pause_s=6.0)[0] == "will"


def test_nothing_certain_is_said_against_a_link_nobody_has_seen() -> None:
    verdict, reason = forecast(BUSY, 0)

    assert verdict == "maybe"
    assert "1 Gbit/s" in reason
    assert forecast(None, 1e9) == ("maybe", "how busy the guest is has not been measured")
