"""A VM whose files lie in another directory on the target: how it is planned."""

from __future__ import annotations

import dataclasses
import json
import posixpath
from typing import Any

import pytest

from tests.builders import (
    GIB,
    IMAGES,
    HostBuilder,
    VmBuilder,
    a_host,
    a_move_of,
    a_usual_host,
    a_vm,
    move_request,
    new_ids,
)
from twinship.convoy import refuse_contradictions
from twinship.doctor.journal import _places
from twinship.domxml.read import disks
from twinship.domxml.records import with_files_at
from twinship.domxml.refit import Refit, Rewrite, refitted
from twinship.migrate.disks import Way, routes
from twinship.migrate.facts import TargetFile
from twinship.migrate.places import Places, mapped, places, places_of
from twinship.migrate.plan import plan_migrate, rewrites_of
from twinship.model.errors import UsageError
from twinship.model.plan import Finding, Plan
from twinship.model.request import StorageWay
from twinship.model.vm import ImageHeader, Layer

SRV = "/srv/vms"
BOTH = a_usual_host("kvm02").with_pool("vms", path=SRV)
ONLY_SRV = a_host("kvm02").with_network().with_pool("vms", path=SRV)
TO_SRV: dict[str, Any] = {"maps": ((IMAGES, SRV),)}
BASE = f"{IMAGES}/base.qcow2"
OFF = a_vm("web").with_disk("vda")
TOP, NEW = f"{IMAGES}/web-vda.qcow2", f"{SRV}/web-vda.qcow2"


def a_plan(vm: VmBuilder, target: HostBuilder, **asked: Any) -> Plan:
    return plan_migrate(a_move(vm, target, **asked), move_request(**asked), new_ids(0))


def a_move(vm: VmBuilder, target: HostBuilder, **asked: Any) -> Any:
    return a_move_of(vm, target=target, asked=move_request(**asked))


def named(plan: Plan, code: str) -> list[Finding]:
    return [check for check in plan.checks if check.code == code]


def where(plan: Plan) -> dict[str, str]:
    """The files of the definition on the target."""
    return {disk.target: disk.path for disk in disks(plan.domain_xml[0].xml)}


def with_backing_name(vm: VmBuilder, name: str) -> VmBuilder:
    """The VM with the file on top naming its backing file so."""
    (disk,) = vm.facts().disks
    header = disk.chain[0].header
    assert header is not None
    top = dataclasses.replace(disk.chain[0], header=dataclasses.replace(header, backing_path=name))
    return vm.having(disks=(dataclasses.replace(disk, chain=(top, *disk.chain[1:])),))


# Which directory becomes which


@pytest.mark.parametrize(
    ("old", "new"), [(IMAGES, SRV), (f"{IMAGES}/", f"{SRV}//"), (f"{IMAGES}/./x/..", SRV)]
)
def test_a_directory_is_mapped_however_it_is_written(old: str, new: str) -> None:
    assert mapped(move_request(maps=((old, new), ("br0", "br1")))) == {IMAGES: SRV}


def test_only_the_directory_itself_is_mapped() -> None:
    moved = Places(((IMAGES, SRV),))

    assert moved.there(TOP) == NEW
    assert moved.there(f"{IMAGES}/sub/web.qcow2") == f"{IMAGES}/sub/web.qcow2"
    assert moved.there(IMAGES) == IMAGES
    assert Places((("/", "/srv"),)).there("/a") == "/srv/a"


@pytest.mark.parametrize("kind", ["dir", "fs", "netfs"])
def test_fix_takes_the_only_pool_for_files(kind: str) -> None:
    there = (
        a_host()
        .with_pool("vms", path=SRV, type=kind)
        .with_pool("vg", path="/dev/vg", type="logical")
    )
    fix = move_request(fix=True)

    assert places(there.facts(), OFF.facts(), (), fix) == Places(((IMAGES, SRV),))
    assert places(there.facts(), OFF.facts(), (), move_request()) == Places()


@pytest.mark.parametrize(
    "target",
    [
        BOTH,
        a_host().with_pool("a", path="/a").with_pool("b", path="/b"),
        a_host().with_pool("a", path="/a", active=False),
        a_host().with_pool("vg", path="/dev/vg", type="logical"),
    ],
)
def test_fix_leaves_alone_what_is_there_or_what_is_not_plain(target: HostBuilder) -> None:
    assert places(target.facts(), OFF.facts(), (), move_request(fix=True)) == Places()


def test_fix_does_not_move_what_is_in_no_pool_of_the_source() -> None:
    vm = a_vm().with_disk(pool="", problem="it lies in no pool", problem_code="DISK_NOT_IN_POOL")

    assert places(ONLY_SRV.facts(), vm.facts(), (), move_request(fix=True)) == Places()


def test_map_goes_before_fix() -> None:
    request = move_request(fix=True, maps=((IMAGES, "/elsewhere"),))

    assert places(ONLY_SRV.facts(), OFF.facts(), (), request).there(TOP) == (
        "/elsewhere/web-vda.qcow2"
    )


@pytest.mark.parametrize(
    "maps",
    [
        (("/a", "b"),),
        (("br0", "/b"),),
        (("/a", "/b"), ("/b", "/c")),
        (("br0", "br1"), ("br1", "br0")),
    ],
)
def test_maps_that_contradict_are_refused(maps: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(UsageError):
        refuse_contradictions(move_request(maps=maps))


@pytest.mark.parametrize("path", [TOP, f"{IMAGES}//web.qcow2", f"{IMAGES}/x/../web.qcow2", "/a"])
@pytest.mark.parametrize("old", [IMAGES, f"{IMAGES}/x/..", "/"])
def test_the_definition_names_each_file_where_it_will_lie(path: str, old: str) -> None:
    there = Places(((old, SRV),)).there(path)

    text = refitted(a_vm().with_disk(path=path).xml(), [Rewrite(Refit.DIRECTORY, old, SRV)])

    assert [disk.path for disk in disks(text)] == [there]


# The plan


@pytest.mark.parametrize("vm", [OFF, OFF.running()])
@pytest.mark.parametrize(("target", "asked"), [(BOTH, TO_SRV), (ONLY_SRV, {"fix": True})])
def test_a_plan_puts_the_files_there(
    vm: VmBuilder, target: HostBuilder, asked: dict[str, Any]
) -> None:
    plan = a_plan(vm, target, **asked)

    assert plan.feasible
    assert where(plan) == {"vda": NEW}
    assert f'+      <source file="{NEW}"/>' in plan.diff
    (disk,) = plan.spec["disks"]
    (layer,) = disk["layers"]
    assert (disk["path"], disk["there"]) == (TOP, NEW)
    assert (layer["path"], layer["there"], layer["pool"]) == (TOP, NEW, "vms")
    assert f"file/kvm02/{NEW}" in plan.resources
    assert f"volume:{NEW}" in [step.id for step in plan.steps]
    assert plan.binding["disk vda"] == f"{TOP}, there {NEW} (copy)"
    assert plan.binding[f"the file {NEW} on kvm02"] == "absent"
    assert plan.binding[f"the pool over {SRV} on kvm02"] == "active"
    assert places_of(rewrites_of(plan.spec)) == Places(((IMAGES, SRV),))


def test_without_fix_the_cure_is_told_and_not_taken() -> None:
    plan = a_plan(OFF, ONLY_SRV)

    (finding,) = named(plan, "STORAGE_POOL_MISSING")
    assert not plan.feasible
    assert finding.cure is not None
    assert (finding.cure.old, finding.cure.new) == (IMAGES, SRV)
    assert where(plan) == {"vda": TOP}


def test_an_inactive_pool_is_gone_round_as_well() -> None:
    plan = a_plan(OFF, ONLY_SRV.with_pool(active=False), fix=True)

    (finding,) = named(plan, "STORAGE_POOL_MISSING")
    assert finding.cured
    assert where(plan) == {"vda": NEW}


def test_where_several_pools_are_the_hint_names_them() -> None:
    target = ONLY_SRV.with_pool("more", path="/more").with_pool("off", path="/off", active=False)

    (finding,) = named(a_plan(OFF, target, fix=True), "STORAGE_POOL_MISSING")

    assert finding.cure is None
    assert f"--map {IMAGES}=DIRECTORY; active there: {SRV} (vms), /more (more)" in finding.hint


def test_what_lies_at_the_new_place_is_in_the_way() -> None:
    facts = a_move(OFF, BOTH, **TO_SRV)
    facts = dataclasses.replace(facts, files={TOP: TargetFile(exists=True)})

    (finding,) = named(plan_migrate(facts, move_request(**TO_SRV), new_ids(0)), "DISK_EXISTS")

    assert finding.message.startswith(f"{NEW} is already there on kvm02")
    assert finding.hint.endswith(NEW)


def test_space_is_counted_in_the_new_pool_for_all_directories_that_go_there() -> None:
    vm = a_vm().with_disk("vda", used_gib=3).with_disk("vdb", path="/b/b.qcow2", used_gib=3)
    maps = ((IMAGES, SRV), ("/b", SRV))

    def full(gib: float) -> list[Finding]:
        target = a_usual_host("kvm02").with_pool("vms", path=SRV, free_gib=gib)
        return named(a_plan(vm, target, maps=maps), "STORAGE_FULL")

    assert full(7) == []
    (finding,) = full(5)
    assert "need 6.0 GiB, pool 'vms'" in finding.message


def test_a_medium_goes_to_the_new_place_too() -> None:
    iso = Layer(path=f"{IMAGES}/a.iso", pool="images", allocated_bytes=9, length_bytes=9)
    vm = OFF.with_cdrom(iso.path)
    found = tuple(
        dataclasses.replace(disk, chain=(iso,)) if disk.readonly else disk
        for disk in vm.facts().disks
    )
    facts = a_move_of(
        vm.having(disks=found),
        target=BOTH,
        asked=move_request(**TO_SRV),
        media={iso.path: False},
        files={path: TargetFile(exists=False) for path in (TOP, iso.path)},
    )

    plan = plan_migrate(facts, move_request(**TO_SRV), new_ids(0))

    assert [(file["path"], file["there"]) for file in plan.spec["along"]] == [
        (iso.path, f"{SRV}/a.iso")
    ]
    assert where(plan) == {"vda": NEW, "sda": f"{SRV}/a.iso"}


# Chains


@pytest.mark.parametrize(
    ("name", "keeps"),
    [
        (BASE, False),
        ("base.qcow2", True),
        ("./base.qcow2", True),
        ("../images/base.qcow2", False),
        ("/elsewhere/base.qcow2", True),
    ],
)
def test_a_shut_off_vms_chain_moves_only_where_its_files_still_find_each_other(
    name: str, keeps: bool
) -> None:
    base = posixpath.normpath(posixpath.join(IMAGES, name))
    target = BOTH.with_pool("e", path="/elsewhere")
    plan = a_plan(with_backing_name(a_vm("web").with_disk(backing=(base,)), name), target, **TO_SRV)

    assert (named(plan, "CHAIN_KEEPS_ITS_PLACE") == []) is keeps
    assert plan.feasible is keeps


def test_a_running_vms_disk_becomes_an_overlay_upon_its_base_at_the_new_place() -> None:
    plan = a_plan(a_vm("web").with_disk(backing=(BASE,)).running(), BOTH, **TO_SRV)

    (layer,) = plan.spec["disks"][0]["layers"]
    assert plan.feasible
    assert layer["backing"] == f"{SRV}/base.qcow2"
    assert [file["there"] for file in plan.spec["along"]] == [f"{SRV}/base.qcow2"]


def test_a_running_vms_longer_chain_becomes_one_file_at_the_new_place() -> None:
    vm = a_vm("web").with_disk(backing=(BASE, f"{IMAGES}/root.qcow2")).running()

    (route,) = routes(a_move(vm, BOTH, **TO_SRV), move_request(**TO_SRV), live=True)

    assert route.way is Way.COPY
    assert "would not find its own backing file" in route.why
    assert a_plan(vm, BOTH, **TO_SRV).feasible
    assert not a_plan(vm, BOTH, **TO_SRV, storage=StorageWay.INCREMENT).feasible


def test_a_file_without_a_backing_file_keeps_its_place_anywhere() -> None:
    plain = Layer(path=TOP, header=ImageHeader(format="qcow2", virtual_bytes=GIB))

    assert Places(((IMAGES, SRV),)).still_names(plain)


# Records


def test_a_record_speaks_of_the_files_at_their_new_place() -> None:
    domain = a_vm().with_disk(path=TOP).with_cdrom("/iso/a.iso").xml()
    text = (
        f"<domainsnapshot><memory snapshot='external' file='{IMAGES}/m'/><disks>"
        f"<disk name='vda' snapshot='external'><source file='{TOP}'/></disk></disks>"
        f"{domain}</domainsnapshot>"
    )

    moved = with_files_at(text, Places(((IMAGES, SRV),)).there)

    assert IMAGES not in moved
    assert moved.count(NEW) == 2
    assert f"{SRV}/m" in moved
    assert "/iso/a.iso" in moved
    assert with_files_at(text, Places().there) is text


# What is left of it


def test_the_doctor_looks_for_volumes_where_they_were_made() -> None:
    spec = a_plan(a_vm("web").with_disk(backing=(BASE,)).running(), BOTH, **TO_SRV).spec
    old = json.loads(json.dumps(spec))
    for file in (*old["disks"][0]["layers"], *old["along"]):
        del file["there"]

    assert _places("migrate", spec) == {
        f"volume:{path}": ("kvm02", path) for path in (NEW, f"{SRV}/base.qcow2")
    }
    assert _places("migrate", old) == {f"volume:{path}": ("kvm02", path) for path in (TOP, BASE)}
