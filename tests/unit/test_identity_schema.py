"""The identity table against definitions nobody wrote: drawn from libvirt's own schema.

None of them was seen when the table was written. A larger set runs with ``script/test --all``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

import pytest
from lxml import etree

from tests.identity_paths import CHANGED, TOLD, clone_of, without
from tests.schema_domains import Grammar, a_domain
from twinship.domxml.document import parse, serialize
from twinship.domxml.resources import resources

FEW = range(100)
MANY = range(100, 3000)
SETS = pytest.mark.parametrize(
    "seeds", [FEW, pytest.param(MANY, marks=pytest.mark.all)], ids=["few", "many"]
)
CHARDEV = "devices/{serial,console,parallel,channel,smartcard,redirdev,rng/backend}"

SHARED = (
    # files that are only read, and devices that any number of guests may open
    *("os/{kernel,initrd,dtb,root,loader}", "os/nvram/@template"),
    *("devices/rng/backend[@model='random']", "devices/audio/{input,output}/@dev"),
    *("devices/graphics/gl/@rendernode", "devices/video/model/acceleration/@rendernode"),
    *("devices/smartcard/database", "devices/interface/{script,downscript}/@path"),
    "devices/interface/backend/@{tap,vhost}",
    # what many join: a bus, a group, a server, a control group
    *("devices/graphics/@address", "resource/partition"),
    "devices/interface[@type='mcast' or @type='client']/source/@port",
    # the guest's own side, and what libvirt reads of a running VM only
    "devices/{serial,console,parallel,channel,smartcard}/target/@port",
    "devices/{serial,console,parallel}/@tty",
    f"{CHARDEV}[@type='pty']/source/@path",
    # where datagrams go: it is the sender's port that one VM has
    f"{CHARDEV}[@type='udp']/source[not(@mode='bind')]",
    # which memory device it is, without a file
    "devices/memory/uuid",
)
"""What a clone has in common with its source and no row speaks of, each looked at by a person."""

IDENTIFYING = re.compile(
    r"/srv/.*|/dev/nmdm.*|(?i:[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12})|52:54:.*|[45]\d{3}"
)


@functools.cache
def grammar() -> Grammar:
    found = Grammar.load()
    if found is None:
        pytest.skip("libvirt's schemas are not installed")
    return found


@functools.cache
def domain(seed: int) -> str:
    return serialize(a_domain(grammar(), seed))


@functools.cache
def clone(seed: int) -> str:
    return clone_of(domain(seed))


@SETS
def test_a_clone_is_valid_by_the_schema(seeds: range) -> None:
    for seed in seeds:
        problem = grammar().problem(parse(clone(seed)))
        assert not problem, f"seed {seed}: {problem}"


@SETS
def test_a_clone_differs_in_what_the_table_lists_and_in_no_more(seeds: range) -> None:
    for seed in seeds:
        before, after = (without(text, CHANGED) for text in (domain(seed), clone(seed)))
        assert before == after, f"seed {seed}"


@SETS
def test_a_clone_holds_nothing_of_its_sources_but_what_the_table_tells(seeds: range) -> None:
    for seed in seeds:
        before, after = (resources(without(text, TOLD)) for text in (domain(seed), clone(seed)))
        assert not before & after, f"seed {seed}"


@SETS
def test_no_identifying_value_is_left_that_nobody_looked_at(seeds: range) -> None:
    for seed in seeds:
        before, after = (
            frozenset(values(parse(without(text, TOLD, SHARED))))
            for text in (domain(seed), clone(seed))
        )
        assert not {v for v in before & after if IDENTIFYING.fullmatch(v[1])}, f"seed {seed}"


def test_one_seed_is_one_domain_and_all_kinds_of_devices_are_drawn() -> None:
    again = serialize(a_domain(grammar(), FEW[0]))
    drawn = {
        str(device.tag) for seed in FEW for device in parse(domain(seed)).iterfind("devices/*")
    }

    assert again == domain(FEW[0])
    assert drawn >= {
        *("disk", "lease", "filesystem", "interface", "input", "sound", "audio", "hostdev"),
        *("graphics", "video", "console", "parallel", "serial", "channel", "smartcard"),
        *("redirdev", "redirfilter", "rng", "tpm", "shmem", "memory", "watchdog", "vsock", "panic"),
    }


def values(root: etree._Element, path: str = "") -> Iterator[tuple[str, str]]:
    """Every attribute and text of a tree, with its path."""
    for key, value in root.attrib.items():
        yield f"{path}@{key!s}", str(value)
    if root.text and root.text.strip():
        yield path, root.text.strip()
    for child in root:
        yield from values(child, f"{path}{child.tag!s}/")
