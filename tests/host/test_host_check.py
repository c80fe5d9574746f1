"""``host check A --with B``: what the two share, and whether they can send to each other."""

from __future__ import annotations

import json
import threading

import pytest

from tests.host.world import World
from twinship_lab import Link

pytestmark = pytest.mark.host


def missing(world: World) -> tuple[int, list[str]]:
    done = world.cli("host", "check", "lab1", "--with", "lab2", "-o", "json")
    return done.returncode, json.loads(done.stdout)["missing"]


def test_two_hosts_that_reach_each_other_lack_nothing(world: World) -> None:
    assert missing(world) == (0, [])
    assert world.vms(world.one) == world.vms(world.two) == {}
    assert world.files(world.one) == world.files(world.two) == set()


def test_a_closed_way_is_said_with_what_to_type(world: World) -> None:
    world.two.link(which=Link.DATA, up=False)
    mended = threading.Timer(8, world.mend)  # else it takes as long as the kernel tries
    mended.start()
    code, found = missing(world)
    mended.join()
    assert code == 5
    assert any("lab1 cannot send to lab2" in text and "--add-port" in text for text in found)
    assert world.vms(world.one) == {}
