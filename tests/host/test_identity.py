"""Definitions drawn from libvirt's schema, and their clones, before a real libvirt."""

from __future__ import annotations

import pytest

from tests.host.world import World
from tests.identity_paths import CLONE, TOLD, clone_of, without
from tests.schema_domains import Grammar, a_domain
from twinship.domxml.document import serialize
from twinship.domxml.resources import resources
from twinship_lab import LabHost

pytestmark = pytest.mark.host

FAIR_SHARE = 0.3
"""Of the drawn definitions libvirt takes at least so many; else the drawing is no test of it."""


@pytest.mark.parametrize(
    "seeds", [range(40), pytest.param(range(40, 1000), marks=pytest.mark.all)], ids=["few", "many"]
)
def test_libvirt_takes_the_clone_of_every_definition_it_takes(world: World, seeds: range) -> None:
    grammar = Grammar.load()
    assert grammar is not None, "libvirt's schemas are not installed"
    taken = 0
    for seed in seeds:
        text = serialize(a_domain(grammar, seed))
        if refusal(world.one, text):
            continue
        taken += 1
        try:
            why = refusal(world.one, clone_of(text))
            assert not why, f"seed {seed}: {why}"
            held, by_clone = (
                resources(without(as_defined(world.one, name), TOLD)) for name in ("web", CLONE)
            )
            assert not held & by_clone, f"seed {seed}"
        finally:
            for name in ("web", CLONE):
                undefine = ["virsh", "-q", "undefine", "--keep-nvram", "--domain", name]
                world.one.run(undefine, check=False)
    print(f"libvirt took {taken} of {len(seeds)}")
    assert taken >= FAIR_SHARE * len(seeds)


def refusal(host: LabHost, text: str) -> str:
    """Why libvirt does not define a VM; empty when it did."""
    define = ["virsh", "-q", "define", "/dev/stdin"]
    done = host.run(define, input=text.encode(), check=False)
    return done.stderr.decode() if done.returncode else ""


def as_defined(host: LabHost, name: str) -> str:
    """A VM's definition as libvirt shows it, with all it has filled in."""
    show = ["virsh", "-q", "dumpxml", "--inactive", "--security-info", "--domain", name]
    return host.run(show).stdout.decode()
