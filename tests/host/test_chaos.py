"""Random faults at random moments, two hundred of them; the tally goes to docs/reference/faults.md.

Each run's choices follow from its number: ``CHAOS_ONLY=17`` repeats one.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.host.story import STORIES, Story
from tests.host.world import MIB, World
from twinship.model.operation import OperationState
from twinship_lab import DaemonAction, Link

pytestmark = [pytest.mark.host, pytest.mark.all]

RUNS = int(os.environ.get("CHAOS_RUNS", "200"))
TALLY = Path(__file__).parents[2] / "docs/reference/faults.md"

Fault = Callable[[World, subprocess.Popen[str], random.Random], None]


def _signalled(number: signal.Signals) -> Fault:
    return lambda _world, process, _dice: process.send_signal(number)


def _killed_daemon(end: str) -> Fault:
    def make(world: World, _process: subprocess.Popen[str], dice: random.Random) -> None:
        host = world.lab.host(end)
        host.daemon(DaemonAction.KILL)
        time.sleep(dice.uniform(0, 3))
        host.daemon(DaemonAction.START)

    return make


def _frozen_daemon(end: str) -> Fault:
    def make(world: World, _process: subprocess.Popen[str], dice: random.Random) -> None:
        host = world.lab.host(end)
        host.daemon(DaemonAction.FREEZE)
        time.sleep(dice.uniform(0.2, 14))
        host.daemon(DaemonAction.THAW)

    return make


def _killed_qemu(end: str) -> Fault:
    def make(world: World, _process: subprocess.Popen[str], _dice: random.Random) -> None:
        world.lab.host(end).run(["pkill", "-9", "qemu-system"], check=False)

    return make


def _cut(end: str, which: Link) -> Fault:
    def make(world: World, _process: subprocess.Popen[str], dice: random.Random) -> None:
        host = world.lab.host(end)
        host.link(which=which, up=False)
        time.sleep(dice.uniform(0.2, 14))
        host.link(which=which, up=True)

    return make


FAULTS: dict[str, Fault] = {
    "worker killed": _signalled(signal.SIGKILL),
    "Ctrl-C": _signalled(signal.SIGINT),
    "source's libvirtd killed": _killed_daemon("lab1"),
    "target's libvirtd killed": _killed_daemon("lab2"),
    "source's libvirtd frozen": _frozen_daemon("lab1"),
    "target's libvirtd frozen": _frozen_daemon("lab2"),
    "source's QEMU killed": _killed_qemu("lab1"),
    "target's QEMU killed": _killed_qemu("lab2"),
    "data link cut": _cut("lab2", Link.DATA),
    "source's control link cut": _cut("lab1", Link.CONTROL),
    "target's control link cut": _cut("lab2", Link.CONTROL),
}


def test_two_hundred_random_faults_leave_one_whole_copy_each(world: World) -> None:
    only = os.environ.get("CHAOS_ONLY")
    tally: Counter[tuple[str, str, str]] = Counter()
    troubles: list[str] = []
    for number in [int(only)] if only else range(RUNS):
        dice = random.Random(number)
        story, fault = dice.choice(list(STORIES)), dice.choice(list(FAULTS))
        try:
            went = run(world, story, fault, dice)
        except AssertionError as error:
            went = "WRONG"
            text = str(error).strip()
            troubles.append(f"{number}: {story}, {fault}: {text.splitlines()[0] if text else ''}")
            world.mend()
        tally[story, fault, went] += 1
    world.clean()
    if not only:
        TALLY.write_text(_page(tally))
    assert not troubles, "\n".join(troubles)


def run(world: World, name: str, fault: str, dice: random.Random) -> str:
    """One story with one fault; how it ended."""
    story = Story(world, **STORIES[name])
    story.set_up()
    before = story.sha()
    earlier = {op.id for op in world.operations()}
    process = world.actor(
        verb=story.verb,
        request={**story.request, "rate": 2 * MIB},
        deed="kill",
        write=["no", "such"],
        when="after",
    )
    time.sleep(dice.uniform(0, 3.5))
    FAULTS[fault](world, process, dice)
    process.communicate(timeout=180)
    world.mend()
    world.resume_all()
    operations = [op for op in world.operations() if op.id not in earlier]
    if not operations:
        return "not begun"
    assert operations[0].state is not OperationState.NEEDS_ATTENTION, operations[0].waiting_for
    story.check(before, died="QEMU" in fault)
    world.assert_nothing_left()
    return operations[0].state.value


def _page(tally: Counter[tuple[str, str, str]]) -> str:
    states = ["not begun", "succeeded", "failed", "cancelled", "needs_attention", "WRONG"]
    total = Counter(dict.fromkeys(states, 0))
    rows = []
    for fault in FAULTS:
        row = Counter(dict.fromkeys(states, 0))
        for (_story, made, went), count in tally.items():
            if made == fault:
                row[went] += count
                total[went] += count
        cells = " | ".join(str(row[state]) for state in states)
        rows.append(f"| {fault} | {sum(row.values())} | {cells} |")
    cells = " | ".join(str(total[state]) for state in states)
    rows.append(f"| **all** | {sum(total.values())} | {cells} |")
    head = " | ".join(state.replace("_", " ") for state in states)
    stories = ", ".join(STORIES)
    lines = [
        "# Random faults",
        "",
        f"Written by `script/test --all` ({datetime.now(UTC):%Y-%m-%d}): {RUNS} operations",
        f"({stories}),",
        "each with one fault at a random moment, on real libvirt and QEMU. After each there has to",
        "be exactly one copy of the VM that runs or can be started, whole, and nothing left on",
        "either host; *WRONG* counts those of which that was not so.",
        "",
        f"| fault | runs | {head} |",
        f"|---|---|{'---|' * len(states)}",
        *rows,
        "",
    ]
    return "\n".join(lines)
