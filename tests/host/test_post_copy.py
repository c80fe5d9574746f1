"""Post-copy: a guest busier than the link arrives, and a broken link loses nothing of it.

The ROM guest checks its own memory, and tells of a page that was lost, or is of another moment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.host.test_rom_guest import make, ticks, told, wait_until
from tests.host.world import MIB, World
from twinship.model.errors import Conflict
from twinship.model.operation import Operation, OperationState
from twinship.model.request import MigrateRequest, PostCopyWay
from twinship_lab import DaemonAction, LabHost
from twinship_lab.guests import RomLoad

pytestmark = pytest.mark.host

NAME = "strict"
HOT = RomLoad(hot_bytes=6 * MIB, dirty_bytes_s=30 * MIB)
LINK = 4 * MIB


class Moving:
    """A guest that is busier than the link, on its way from lab1 to lab2, in a thread."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.said: list[str] = []
        self.operation_id = ""
        self._pool = ThreadPoolExecutor(1)
        self._known = threading.Event()

    def begin(self, post_copy: PostCopyWay) -> Future[Operation]:
        request = MigrateRequest(vm=f"lab1/{NAME}", target="lab2", post_copy=post_copy)

        def move() -> Operation:
            with self.world.controller() as controller:
                return controller.migrate(request, watch=self._watch)

        return self._pool.submit(move)

    def _watch(self, operation: Operation) -> None:
        self.operation_id = operation.id
        for words in (operation.progress.phase, operation.waiting_for):
            if words and words not in self.said:
                self.said.append(words)

    def cancel(self) -> None:
        with self.world.controller() as controller:
            controller.operation_cancel(self.operation_id)


def a_busy_guest(world: World, link: int = LINK) -> Moving:
    make(world, HOT, memory_mib=16)
    world.one.link(rate_bytes_s=link)
    return Moving(world)


def state(host: LabHost) -> str:
    """virsh's words for the guest's state and its reason; empty where it is not."""
    done = host.run(["virsh", "-q", "domstate", NAME, "--reason"], check=False)
    return done.stdout.decode().strip()


def in_post_copy(world: World) -> bool:
    return (state(world.one), state(world.two)) == ("paused (post-copy)", "running (post-copy)")


def until_in_post_copy(world: World) -> None:
    """Waits for the switch, then slows the link, so that what comes next finds it under way."""
    wait_until(lambda: in_post_copy(world), 30)
    world.one.link(rate_bytes_s=LINK // 16)


def broken(world: World) -> bool:
    """Both hosts have noticed."""
    return "failed" in state(world.one) and "failed" in state(world.two)


def break_link(world: World) -> None:
    """Resets the connections that the memory goes over; new ones can be made, as fast as before."""
    world.one.run(["ss", "-K", "dst", world.two.address, "dport", "ge", "49152"])
    world.one.link(rate_bytes_s=LINK)


def assert_arrived_whole(world: World) -> None:
    """It went on, with the memory that it had, and on the target alone."""
    world.mend()
    assert (world.vms(world.one), world.vms(world.two)) == ({}, {NAME: "running"})
    before = ticks(world.one, NAME)[-1]
    seen = len(ticks(world.two, NAME))
    wait_until(lambda: len(ticks(world.two, NAME)) >= seen + 2)
    after = ticks(world.two, NAME)
    assert after[0][0] >= before[0], "it went on where it was"
    assert {bad for _, bad in after} == {0}
    assert "bad page" not in told(world.two, NAME)
    assert "ready" not in told(world.two, NAME), "it was moved, not started anew"


def test_a_guest_busier_than_the_link_arrives_when_post_copy_is_allowed_and_only_then(
    world: World,
) -> None:
    moving = a_busy_guest(world, link=2 * LINK)
    without = moving.begin(PostCopyWay.NEVER)
    wait_until(lambda: "move the VM: memory round 7" in moving.said, 40)
    moving.cancel()
    assert without.result().state is OperationState.CANCELLED
    assert world.vms(world.one) == {NAME: "running"}

    moving = Moving(world)
    arrived = moving.begin(PostCopyWay.ALLOW).result(timeout=60)

    assert arrived.state is OperationState.SUCCEEDED, arrived.error
    result = arrived.result or {}
    assert (result["mode"], result["post_copy"], result["recoveries"]) == ("live", True, 0)
    assert "move the VM: switched to post-copy" in moving.said
    assert_arrived_whole(world)


def a_break_is_mended(world: World, *, also: Callable[[Moving], None] = lambda _: None) -> None:
    moving = a_busy_guest(world, link=LINK // 2)
    ended = moving.begin(PostCopyWay.PREFER)
    until_in_post_copy(world)
    also(moving)
    break_link(world)

    arrived = ended.result(timeout=90)

    assert arrived.state is OperationState.SUCCEEDED, arrived.error
    result = arrived.result or {}
    assert (result["mode"], result["post_copy"]) == ("live", True)
    assert result["recoveries"] >= 1
    assert "move the VM: link broken, next try in 1 s" in moving.said
    assert_arrived_whole(world)


def test_a_link_that_breaks_in_post_copy_is_mended_by_itself_and_a_cancel_refused(
    world: World,
) -> None:
    def cancelled_in_vain(moving: Moving) -> None:
        with pytest.raises(Conflict, match="cannot be cancelled") as refused:
            moving.cancel()
        assert "it will arrive" in refused.value.cause

    a_break_is_mended(world, also=cancelled_in_vain)


@pytest.mark.all
@pytest.mark.parametrize("number", range(20))
def test_a_break_is_mended_each_of_twenty_times(world: World, number: int) -> None:
    """At another moment each time."""
    a_break_is_mended(world, also=lambda _: time.sleep(number * 0.03))


@pytest.mark.all
def test_a_link_that_is_away_for_long_is_waited_for(world: World) -> None:
    moving = a_busy_guest(world)
    ended = moving.begin(PostCopyWay.PREFER)
    until_in_post_copy(world)
    world.one.run(["ip", "route", "add", "unreachable", world.two.address])
    try:
        break_link(world)
        unnoticed = "move the VM: link broken, the target has not noticed yet"
        wait_until(lambda: unnoticed in moving.said)
        world.two.run(["ss", "-K", "dst", world.one.address, "sport", "ge", "49152"])
        wait_until(lambda: "move the VM: link broken, next try in 4 s" in moving.said, 60)
        assert broken(world), "both halves are kept"
        assert not ended.done()
    finally:
        world.one.run(["ip", "route", "del", "unreachable", world.two.address])

    arrived = ended.result(timeout=90)
    assert arrived.state is OperationState.SUCCEEDED, arrived.error
    assert (arrived.result or {})["recoveries"] == 1
    assert_arrived_whole(world)


@pytest.mark.parametrize("breaks", [pytest.param(False, marks=pytest.mark.all), True])
def test_a_controller_killed_in_post_copy_is_followed_by_the_next_command(
    world: World, breaks: bool
) -> None:
    a_busy_guest(world)
    process = world.start_cli(
        "migrate", f"lab1/{NAME}", "--to", "lab2", "--post-copy", "prefer", "-o", "json"
    )
    until_in_post_copy(world)
    process.kill()
    process.communicate()
    if breaks:
        break_link(world)
        wait_until(lambda: broken(world), 30)

    assert world.resume_all() == [OperationState.SUCCEEDED]

    result = world.operations()[0].result or {}
    assert result["post_copy"] is True
    assert (result["recoveries"] > 0) is breaks
    assert_arrived_whole(world)


@pytest.mark.all
def test_a_link_that_is_silent_for_a_while_is_waited_for_by_tcp_itself(world: World) -> None:
    moving = a_busy_guest(world)
    ended = moving.begin(PostCopyWay.PREFER)
    until_in_post_copy(world)
    world.two.link(up=False)
    time.sleep(world.config.stall_s + 1)  # longer than a move before the switch may stand still
    assert in_post_copy(world), "nobody has ended it"
    world.two.link(up=True)

    arrived = ended.result(timeout=120)
    assert arrived.state is OperationState.SUCCEEDED, arrived.error
    assert_arrived_whole(world)


@pytest.mark.all
@pytest.mark.parametrize("end", ["source", "target"])
def test_a_libvirtd_killed_in_post_copy_ends_nothing(world: World, end: str) -> None:
    host = world.one if end == "source" else world.two
    moving = a_busy_guest(world)
    ended = moving.begin(PostCopyWay.PREFER)
    until_in_post_copy(world)
    host.daemon(DaemonAction.KILL)
    host.daemon(DaemonAction.START)

    arrived = ended.result(timeout=120)
    assert arrived.state is OperationState.SUCCEEDED, arrived.error
    assert_arrived_whole(world)


@pytest.mark.all
def test_a_half_that_is_lost_leaves_the_other_for_a_person(world: World) -> None:
    moving = a_busy_guest(world)
    ended = moving.begin(PostCopyWay.PREFER)
    until_in_post_copy(world)
    world.two.run(["virsh", "-q", "destroy", NAME])

    left = ended.result(timeout=120)

    assert left.state is OperationState.NEEDS_ATTENTION
    assert "half of its memory is gone" in left.waiting_for
    assert "post-copy" in state(world.one), "it is as it was left"
