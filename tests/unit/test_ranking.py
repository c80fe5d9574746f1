"""Which target comes first."""

from __future__ import annotations

from dataclasses import replace

from tests.builders import (
    GIB,
    HostBuilder,
    a_host,
    a_move_of,
    a_usual_host,
    a_vm,
    move_request,
    new_ids,
    shared_files,
)
from twinship.migrate.plan import plan_migrate
from twinship.migrate.ranking import Candidate, ranked

WEB = a_vm("web").with_disk().with_nic().running()


def candidate(host: HostBuilder, *, shared: bool = False) -> Candidate:
    facts = a_move_of(WEB, target=host)
    if shared:
        facts = replace(facts, files=shared_files(WEB))
    plan = plan_migrate(facts, move_request(target=host.name), new_ids(0))
    return Candidate(host=host.name, plan=plan, facts=host.facts(), memory_bytes=GIB)


def order(*candidates: Candidate) -> list[str]:
    return [one.host for one in ranked(candidates)]


def test_what_cannot_be_done_comes_after_what_can_and_an_unseen_host_last() -> None:
    blocked = candidate(a_host("blocked").with_network())
    dead = Candidate(host="dead", error="no route to host")
    fine = candidate(a_usual_host("fine"))

    assert order(dead, blocked, fine) == ["fine", "blocked", "dead"]
    assert dead.reasons() == ("no route to host",)
    assert "no storage pool" in blocked.reasons()[0]


def test_the_target_with_fewer_obstacles_is_nearer() -> None:
    two = candidate(a_host("two"))
    one = candidate(a_host("one").with_network())

    assert order(two, one) == ["one", "two"]


def test_of_equal_targets_the_roomier_comes_first_and_else_the_order_given() -> None:
    full = candidate(a_usual_host("full").having(memory_free_bytes=2 * GIB))
    roomy = candidate(a_usual_host("roomy"))
    alike = candidate(a_usual_host("alike"))

    assert order(full, roomy, alike) == ["roomy", "alike", "full"]
    assert "48% of its memory" in roomy.reasons()[-1]


def test_a_target_without_anything_to_mind_comes_before_one_with() -> None:
    older = candidate(a_usual_host("older").having(qemu_version=(7, 1, 0)))
    fine = candidate(a_usual_host("fine").having(memory_free_bytes=2 * GIB))

    assert order(older, fine) == ["fine", "older"]
    assert "1 to mind" in older.reasons()[0]


def test_shared_storage_comes_before_a_copy() -> None:
    copied = candidate(a_usual_host("copied"))
    shared = replace(candidate(a_usual_host("shared"), shared=True))

    assert copied.plan is not None
    assert shared.plan is not None
    assert shared.plan.bytes < copied.plan.bytes
