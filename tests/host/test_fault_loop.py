"""Everything but the worker fails, at any line of its journal: daemons, QEMU, links, the lease.

The worker stands still at the line while the fault is made, so that each is hit exactly.
"""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.host.story import STORIES, Fault, Step, Story
from tests.host.world import World
from twinship_lab import DaemonAction, LabHost, Link

pytestmark = pytest.mark.host


def _kill_daemon(host: LabHost) -> None:
    host.daemon(DaemonAction.KILL)


def _kill_qemu(host: LabHost) -> None:
    host.run(["pkill", "-9", "qemu-system"], check=False)


def _cut(world: World) -> None:
    world.two.link(which=Link.DATA, up=False)


def _back_after(world: World, seconds: float) -> None:
    time.sleep(seconds)  # the length of the cut is what is tested
    world.two.link(which=Link.DATA, up=True)


def _past_its_lease(world: World, process: subprocess.Popen[str]) -> None:
    """Another process takes the operation of the stopped one over; that one never wakes."""
    deadline = time.monotonic() + 10
    while not world.resume_all():
        assert time.monotonic() < deadline, "its lease did not lapse"
        time.sleep(0.05)
    assert process.wait(5) == -9


FAULTS = {
    "libvirtd of the source killed": Fault(
        make=lambda world, _: _kill_daemon(world.one),
        mend=lambda world: world.one.daemon(DaemonAction.START),
    ),
    "libvirtd of the target killed": Fault(
        make=lambda world, _: _kill_daemon(world.two),
        mend=lambda world: world.two.daemon(DaemonAction.START),
    ),
    "QEMU of the source killed": Fault(
        make=lambda world, _: _kill_qemu(world.one), kills_qemu=True
    ),
    "QEMU of the target killed": Fault(
        make=lambda world, _: _kill_qemu(world.two), kills_qemu=True
    ),
    "link cut for 3 s": Fault(
        make=lambda world, _: _cut(world), mend=lambda world: _back_after(world, 3)
    ),
    "worker stopped past its lease": Fault(make=_past_its_lease, lease_s=1.0, wakes=False),
}
LONG_CUT = Fault(make=lambda world, _: _cut(world), mend=lambda world: _back_after(world, 60))
MAIN = {
    "clone": "copy",
    "clone of a running VM": "copy",
    "offline move": "carry",
    "offline move with belongings": "carry",
    "seal": "seal",
    "template": "seal",
}
"""The phase with the bytes; of the others it is ``move``."""
WITH_ALL = "live move with disks"
"""The story that meets every fault in the usual run; any other meets one."""


def _story(world: World, name: str) -> Story:
    return Story(world, **STORIES[name])


def _sampled(name: str) -> list[Step]:
    phase = MAIN.get(name, "move")
    return [("intent", phase), ("done", phase)]


def _concerns(name: str, fault: str) -> bool:
    if name in ("seal", "template") and "QEMU" in fault:
        return False  # none runs
    return "move" in name or not ("target" in fault or "link" in fault)


PAIRS = [(name, fault) for name in STORIES for fault in FAULTS if _concerns(name, fault)]
USUAL = {(name, fault) for name, fault in PAIRS if name == WITH_ALL} | {
    ("clone", "QEMU of the source killed"),
    ("clone of a running VM", "libvirtd of the source killed"),
    ("offline move", "libvirtd of the target killed"),
    ("seal", "worker stopped past its lease"),
    ("template", "libvirtd of the source killed"),
}
SAMPLED = [pair if pair in USUAL else pytest.param(*pair, marks=pytest.mark.all) for pair in PAIRS]


@pytest.mark.parametrize(("name", "fault"), SAMPLED)
def test_a_fault_around_the_bytes_leaves_one_whole_copy(
    world: World, name: str, fault: str
) -> None:
    story = _story(world, name)
    for step in _sampled(name):
        story.trouble(step, FAULTS[fault])
    world.clean()


@pytest.mark.all
@pytest.mark.parametrize(("name", "fault"), PAIRS)
def test_a_fault_at_any_line_of_the_journal_leaves_one_whole_copy(
    world: World, name: str, fault: str
) -> None:
    story = _story(world, name)
    steps = [step for step in story.steps() if step[0] in ("intent", "done")]
    assert len(steps) >= 8
    for step in steps:
        story.trouble(step, FAULTS[fault])
    world.clean()


@pytest.mark.all
@pytest.mark.parametrize("name", [name for name in STORIES if "move" in name])
def test_a_link_that_is_cut_for_a_minute_leaves_one_whole_copy(world: World, name: str) -> None:
    story = _story(world, name)
    for step in _sampled(name):
        story.trouble(step, LONG_CUT)
    world.clean()
