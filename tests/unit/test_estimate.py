"""How long a clone is expected to take: what the last ones took in the same pools."""

from __future__ import annotations

import pytest

from tests.builders import GIB, a_clone_of, a_vm, an_operation, clone_request, new_ids
from twinship.clone.estimate import INSTANT_S, estimated_s
from twinship.clone.many import plan_many
from twinship.clone.plan import plan_clone
from twinship.model.operation import Operation, OperationState
from twinship.model.request import CloneMode

VM = a_vm("web").with_disk(gib=8).with_nic()
PLAN = plan_clone(a_clone_of(VM), clone_request(name="b"), new_ids())
BYTES = PLAN.bytes


def past(speed: float, **changes: object) -> Operation:
    """A clone of 1 GiB at this speed, in bytes a second."""
    spec = {
        "host": "kvm01",
        "rate": 0,
        "disks": [{"target": "vda", "pool": PLAN.spec["disks"][0]["pool"]}],
    }
    disk = {"target": "vda", "bytes_copied": GIB, "seconds": GIB / speed}
    return an_operation(
        kind="clone",
        state=OperationState.SUCCEEDED,
        spec=spec | changes,
        result={"clones": [{"disks": [disk]}]},
    )


def test_without_a_past_nothing_is_said() -> None:
    assert estimated_s(PLAN, ()) is None
    assert estimated_s(PLAN, [past(2**20, host="kvm02")]) is None
    assert estimated_s(PLAN, [past(2**20, rate=2**20)]) is None, "it was told to be slow"


def test_the_last_few_copies_of_the_pool_say_how_fast_it_is() -> None:
    rates = [100 * 2**20, 200 * 2**20, 300 * 2**20, 200 * 2**20, 200 * 2**20, 2**30]
    told = estimated_s(PLAN, [past(rate) for rate in rates])
    assert told == pytest.approx(BYTES / (200 * 2**20) + INSTANT_S, abs=0.1)


def test_a_limit_of_rate_makes_it_longer() -> None:
    slow = plan_clone(a_clone_of(VM), clone_request(name="b", rate=2**20), new_ids())
    told = estimated_s(slow, [past(200 * 2**20)])
    assert told == pytest.approx(BYTES / 2**20 + INSTANT_S, abs=0.1)


def test_many_clones_share_the_rate_of_their_pool() -> None:
    requests = [clone_request(name=name) for name in "bcd"]
    ids = [new_ids()] * 3
    many = plan_many(a_clone_of(VM), requests, ids, keep_going=False)
    told = estimated_s(many, [past(200 * 2**20)])
    assert told == pytest.approx(3 * BYTES / (200 * 2**20) + INSTANT_S, abs=0.1)


def test_what_copies_nothing_takes_no_time() -> None:
    request = clone_request(name="b", mode=CloneMode.LINKED)
    assert estimated_s(plan_clone(a_clone_of(VM), request, new_ids()), ()) == INSTANT_S
