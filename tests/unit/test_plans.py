"""The plans of clone and migrate: pure, honest about bytes, bound to what they stand on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.builders import (
    GIB,
    IMAGES,
    HostBuilder,
    a_clone_of,
    a_host,
    a_move_of,
    a_usual_host,
    a_vm,
    clone_request,
    move_request,
    new_ids,
    shared_files,
)
from twinship.clone.asked import asked_for
from twinship.clone.facts import CloneFacts
from twinship.clone.plan import definition as clone_definition
from twinship.clone.plan import plan_clone
from twinship.domxml import read as domread
from twinship.domxml.document import parse
from twinship.migrate.facts import MigrateFacts, TargetFile
from twinship.migrate.plan import marked_away, plan_migrate, travelling_xml
from twinship.model.documents import plan_document
from twinship.model.plan import Plan
from twinship.model.request import CloneMode, MigrateMode, StorageWay
from twinship.model.vm import VmState
from twinship.planning.binding import changed

SECRET = "hunter2-never-shown"
BASE = f"{IMAGES}/base.qcow2"
WEB = a_vm("web").with_disk("vda", used_gib=2).with_nic()
SECRETIVE = WEB.with_device(f"<graphics type='vnc' passwd='{SECRET}'/>").with_network_disk(
    inside=f"<cookies><cookie name='c'>{SECRET}</cookie></cookies>"
)


def a_clone_plan(facts: CloneFacts | None = None, **request: Any) -> Plan:
    facts = facts or a_clone_of(WEB)
    return plan_clone(facts, clone_request(**request), new_ids(len(facts.summary.nics)))


def a_move_plan(facts: MigrateFacts | None = None, **request: Any) -> Plan:
    return plan_migrate(facts or a_move_of(WEB), move_request(**request), new_ids(0))


EVERY_PLAN: dict[str, Callable[[], Plan]] = {
    "clone": lambda: a_clone_plan(a_clone_of(SECRETIVE)),
    "clone with options": lambda: a_clone_plan(
        a_clone_of(SECRETIVE.with_nvram("/nvram/web_VARS.fd")),
        start=True,
        rate=1000,
        verify=True,
        macs=("52:54:00:00:00:09",),
    ),
    "clone of nothing that can be cloned": lambda: a_clone_plan(
        a_clone_of(SECRETIVE.running(), on=a_host()), name="a/b"
    ),
    "live move": lambda: a_move_plan(a_move_of(SECRETIVE.running())),
    "live move of shared disks": lambda: a_move_plan(
        a_move_of(SECRETIVE.running(), files=shared_files(SECRETIVE)), stay_defined=True
    ),
    "move of a transient VM": lambda: a_move_plan(a_move_of(SECRETIVE.transient())),
    "offline move": lambda: a_move_plan(a_move_of(SECRETIVE), verify=True),
    "temporary move": lambda: a_move_plan(a_move_of(SECRETIVE.running()), temporary=True),
}


@pytest.mark.parametrize("name", EVERY_PLAN)
def test_the_same_facts_give_the_same_plan(name: str) -> None:
    assert EVERY_PLAN[name]() == EVERY_PLAN[name]()


@pytest.mark.parametrize("name", EVERY_PLAN)
def test_a_plans_spec_and_document_survive_json(name: str) -> None:
    plan = EVERY_PLAN[name]()

    assert json.loads(json.dumps(plan.spec)) == plan.spec
    assert json.loads(json.dumps(plan_document(plan))) == plan_document(plan)


@pytest.mark.parametrize("name", EVERY_PLAN)
def test_no_secret_of_the_source_is_in_a_plan(name: str) -> None:
    assert SECRET in SECRETIVE.xml()
    assert SECRET not in repr(EVERY_PLAN[name]())


@pytest.mark.parametrize("name", EVERY_PLAN)
def test_a_plan_says_how_many_bytes_its_steps_move(name: str) -> None:
    plan = EVERY_PLAN[name]()

    assert plan.bytes == sum(step.bytes for step in plan.steps)
    assert len({step.id for step in plan.steps}) == len(plan.steps)


# Clone


def test_a_clone_takes_the_first_free_name_and_a_file_beside_the_old_one() -> None:
    plan = a_clone_plan()

    assert plan.spec["name"] == "web-clone"
    assert plan.spec["disks"][0]["path"] == f"{IMAGES}/web-clone.qcow2"
    assert plan.feasible


def test_a_clones_steps_define_it_last_and_start_it_after() -> None:
    plan = a_clone_plan(start=True)

    assert [step.id for step in plan.steps] == [
        "volume:vda",
        "verify",
        "define",
        "start",
    ]
    assert plan.bytes == 2 * GIB


def test_a_clone_of_several_disks_names_a_file_for_each() -> None:
    vm = a_vm("web").with_disk("vda").with_disk("vdb", format="raw").with_cdrom("/iso/a.iso")
    plan = a_clone_plan(a_clone_of(vm))

    assert [disk["file"] for disk in plan.spec["disks"]] == [
        "web-clone-vda.qcow2",
        "web-clone-vdb.raw",
    ]


def test_an_overlay_keeps_what_it_is_based_on_and_only_its_own_bytes_are_copied() -> None:
    vm = a_vm("web").with_disk("vda", backing=(BASE,), used_gib=1)
    (disk,) = a_clone_plan(a_clone_of(vm)).spec["disks"]

    assert (disk["method"], disk["bytes"]) == ("carrier", GIB)
    assert [rung["code"] for rung in disk["why_not_faster"]] == ["REMOTE", "NOT_ASKED"]


def test_in_full_an_overlay_is_flattened_and_all_its_bytes_are_counted() -> None:
    vm = a_vm("web").with_disk("vda", backing=(BASE,), used_gib=1)
    (disk,) = a_clone_plan(a_clone_of(vm), mode=CloneMode.FULL).spec["disks"]

    assert disk["method"] == "flatten"
    assert disk["backing"] == [[BASE, "qcow2"]]
    assert disk["bytes"] == 2 * GIB


def test_a_plan_says_how_each_disk_is_made_and_why_not_faster() -> None:
    step = plan_document(a_clone_plan())["steps"][0]

    assert step["method"] == "carrier"
    assert {rung["method"]: rung["code"] for rung in step["why_not_faster"]} == {
        "reflink": "REMOTE",
        "overlay": "NOT_ASKED",
    }


def test_a_device_of_an_odd_size_is_read_as_one() -> None:
    odd = a_vm().with_block_disk(length=GIB + 512)
    plan = plan_clone(a_clone_of(odd), clone_request(pool="images"), new_ids(0))

    (disk,) = plan.spec["disks"]
    assert (disk["method"], disk["format"]) == ("flatten", "raw")
    assert [rung["code"] for rung in disk["why_not_faster"]] == ["DEVICE", "NOT_ASKED", "ODD_SIZE"]


def test_a_copy_into_a_volume_group_is_a_device_and_as_large_as_it_shall_be() -> None:
    host = a_usual_host().with_pool("vg", path="/dev/vg", type="logical")
    facts = a_clone_of(a_vm().with_block_disk(pool="vg"), on=host)

    plan = plan_clone(facts, clone_request(grow=(("vdb", 3 * GIB),)), new_ids(0))

    (disk,) = plan.spec["disks"]
    assert (disk["path"], disk["bytes"]) == ("/dev/vg/web-clone", 3 * GIB)
    (shown,) = domread.disks(plan.domain_xml[0].xml)
    assert (shown.source_type, shown.path) == ("block", "/dev/vg/web-clone")


def test_a_clone_never_takes_a_file_that_is_there() -> None:
    facts = a_clone_of(WEB, files={"images": frozenset({"web-clone.qcow2"})})

    assert a_clone_plan(facts).spec["disks"][0]["file"] == "web-clone-2.qcow2"


def test_a_clones_definition_shares_no_file_with_its_source_but_what_it_only_reads() -> None:
    vm = (
        a_vm("web")
        .with_disk("vda")
        .with_disk("vdb", format="raw")
        .with_cdrom("/iso/a.iso")
        .with_nic()
        .with_nvram("/nvram/web_VARS.fd")
    )
    plan = a_clone_plan(a_clone_of(vm))
    xml = clone_definition(vm.xml(), plan.spec)

    shared = {d.path for d in domread.disks(xml)} & {d.path for d in domread.disks(vm.xml())}
    assert shared == {"/iso/a.iso"}
    assert domread.summary(xml).nvram == "/nvram/web-clone_VARS.fd"
    assert domread.summary(xml).nics[0].mac == new_ids(1).macs[0]


def test_given_macs_go_to_the_first_interfaces() -> None:
    vm = a_vm("web").with_nic().with_nic()
    plan = a_clone_plan(a_clone_of(vm), macs=("52:54:00:00:00:09",))

    assert plan.spec["identity"]["macs"] == ["52:54:00:00:00:09", "52:54:00:aa:bb:01"]


def test_the_definition_that_is_shown_is_the_one_that_is_written_but_for_secrets() -> None:
    facts = a_clone_of(SECRETIVE)
    plan = a_clone_plan(facts)
    written = clone_definition(facts.source.xml, plan.spec)

    assert SECRET in written
    assert plan.domain_xml[0].xml == written.replace(SECRET, "*****")


def test_a_clone_claims_its_source_its_name_and_its_files() -> None:
    assert a_clone_plan().resources == (
        f"read:vm/{WEB.uuid}",
        "name/kvm01/web-clone",
        f"file/kvm01/{IMAGES}/web-clone.qcow2",
    )


def test_a_clone_claims_the_file_of_its_firmware_variables() -> None:
    plan = a_clone_plan(a_clone_of(WEB.with_nvram("/nvram/web_VARS.fd")))

    assert "file/kvm01//nvram/web-clone_VARS.fd" in plan.resources


@pytest.mark.parametrize("uuid", ["{}", "{{{}}}", "urn:uuid:{}"])
def test_a_uuid_is_written_as_libvirt_writes_it(uuid: str) -> None:
    canonical = "abcdef01-2222-4333-8444-555555555555"
    for text in (canonical.upper(), canonical.replace("-", "")):
        request = clone_request(uuid=uuid.format(text))
        spec = plan_clone(a_clone_of(WEB), request, new_ids()).spec

        assert spec["uuid"] == canonical
        assert plan_clone(a_clone_of(WEB), asked_for(spec), new_ids()).spec["uuid"] == canonical


def test_a_clones_binding_does_not_mind_what_it_does_not_depend_on() -> None:
    facts = a_clone_of(WEB)
    other_host = dataclasses.replace(
        facts.host,
        memory_free_bytes=0,
        pools=a_host().with_pool(free_gib=50).facts().pools,
    )
    later = dataclasses.replace(
        facts,
        host=other_host,
        names=facts.names | {"db"},
        macs=facts.macs | {"52:54:00:00:00:77"},
        files={"images": facts.files["images"] | {"db.qcow2"}},
    )

    assert changed(a_clone_plan(facts).binding, a_clone_plan(later).binding) == ()


@pytest.mark.parametrize(
    ("later", "word"),
    [
        (a_clone_of(WEB.running()), "is running"),
        (a_clone_of(WEB.with_nic(mac="52:54:00:00:00:02")), "definition"),
        (a_clone_of(a_vm("web").with_disk("vda", used_gib=3).with_nic()), "bytes"),
        (a_clone_of(WEB, names=frozenset({"web", "web-clone"})), "is taken"),
        (a_clone_of(WEB, on=a_host().with_pool(active=False)), "not active"),
        (a_clone_of(WEB, files={"images": frozenset({"web-clone.qcow2"})}), "web-clone.qcow2"),
    ],
    ids=["started", "redefined", "disk grew", "name taken", "pool stopped", "file there"],
)
def test_a_clones_binding_changes_with_what_it_stands_on(later: CloneFacts, word: str) -> None:
    before = a_clone_plan(name="web-clone").binding
    sentences = changed(before, a_clone_plan(later, name="web-clone").binding)

    assert sentences
    assert any(word in sentence for sentence in sentences)


# Migrate


@pytest.mark.parametrize(
    ("asked", "vm", "mode"),
    [
        (MigrateMode.AUTO, WEB.running(), "live"),
        (MigrateMode.AUTO, WEB.in_state(VmState.PAUSED), "non-live"),
        (MigrateMode.AUTO, WEB, "offline"),
        (MigrateMode.AUTO, WEB.in_state(VmState.CRASHED), "offline"),
        (MigrateMode.LIVE, WEB.running(), "live"),
        (MigrateMode.NON_LIVE, WEB.running(), "non-live"),
        (MigrateMode.OFFLINE, WEB, "offline"),
    ],
)
def test_a_running_vm_moves_live_and_a_shut_off_one_offline(
    asked: MigrateMode, vm: Any, mode: str
) -> None:
    plan = a_move_plan(a_move_of(vm), mode=asked)

    assert plan.spec["mode"] == mode
    assert plan.feasible
    assert (plan.forecast is None) == (mode == "offline")


def test_a_live_move_sends_memory_and_copies_and_undefines_last() -> None:
    plan = a_move_plan(a_move_of(WEB.running()))

    assert [step.id for step in plan.steps] == [
        f"volume:{IMAGES}/web-vda.qcow2",
        "move",
        "undefine",
    ]
    assert plan.bytes == 2 * GIB + WEB.memory_gib * GIB
    assert plan.steps[-1].host == "kvm01"


def test_an_offline_move_carries_every_file_of_a_chain_as_it_is() -> None:
    vm = a_vm("web").with_disk("vda", backing=(BASE,), used_gib=1)
    plan = a_move_plan(a_move_of(vm))

    assert [step.id for step in plan.steps] == [
        f"volume:{IMAGES}/web-vda.qcow2",
        f"volume:{BASE}",
        f"carry:{IMAGES}/web-vda.qcow2",
        f"carry:{BASE}",
        "verify",
        "define",
        "undefine",
    ]
    assert plan.bytes == 2 * GIB


def test_comparing_the_content_is_paid_in_bytes_and_says_so() -> None:
    plain, verified = a_move_plan(), a_move_plan(verify=True)

    assert verified.bytes - plain.bytes == 2 * 2 * GIB


def test_a_shared_disk_is_not_copied_and_nothing_is_made_for_it() -> None:
    vm = WEB.running()
    plan = a_move_plan(a_move_of(vm, files=shared_files(vm)))

    assert [disk["way"] for disk in plan.spec["disks"]] == ["shared"]
    assert [step.id for step in plan.steps] == ["move", "undefine"]
    assert plan.bytes == GIB


def test_storage_copy_copies_even_what_is_shared() -> None:
    facts = a_move_of(WEB, files=shared_files(WEB))

    plan = a_move_plan(facts, storage=StorageWay.COPY)

    assert plan.spec["disks"][0]["way"] == "copy"
    assert "DISK_EXISTS" in {check.code for check in plan.checks}


def test_network_disks_are_reached_from_both_and_media_stay() -> None:
    vm = a_vm().with_network_disk("vda").with_cdrom("/iso/a.iso").running()
    plan = a_move_plan(a_move_of(vm))

    assert [(d["target"], d["way"]) for d in plan.spec["disks"]] == [("vda", "shared")]


@pytest.mark.parametrize(
    ("request_", "last"),
    [({}, "undefine"), ({"stay_defined": True}, "mark"), ({"temporary": True}, "mark")],
)
def test_what_becomes_of_the_definition_at_the_source_is_the_last_step(
    request_: dict[str, bool], last: str
) -> None:
    plan = a_move_plan(a_move_of(WEB.running()), **request_)

    assert plan.steps[-1].id == last


def test_a_transient_vm_leaves_no_definition_to_remove() -> None:
    plan = a_move_plan(a_move_of(WEB.transient()))

    assert plan.steps[-1].id == "move"


def test_an_ipv6_target_is_bracketed() -> None:
    facts = a_move_of(WEB)
    record = dataclasses.replace(facts.target_record, address="fd00::2")

    plan = a_move_plan(dataclasses.replace(facts, target_record=record))

    assert plan.spec["uri"] == "tcp://[fd00::2]"


def test_a_move_claims_the_vm_its_name_there_and_every_file_once() -> None:
    vm = a_vm("web").with_disk("vda", backing=(BASE,)).with_disk("vdb", backing=(BASE,))
    resources = a_move_plan(a_move_of(vm)).resources

    assert resources == (
        f"vm/{vm.uuid}",
        "name/kvm02/web",
        f"file/kvm02/{IMAGES}/web-vda.qcow2",
        f"file/kvm02/{BASE}",
        f"file/kvm02/{IMAGES}/web-vdb.qcow2",
    )


def test_a_base_two_disks_stand_on_is_carried_once() -> None:
    vm = a_vm("web").with_disk("vda", backing=(BASE,)).with_disk("vdb", backing=(BASE,))
    ids = [step.id for step in a_move_plan(a_move_of(vm)).steps]

    assert len(ids) == len(set(ids))


def test_the_travelling_definition_is_flat_and_thin_for_copies_only() -> None:
    chain = "<backingStore type='file'><source file='/base'/></backingStore>"
    vm = a_vm("web").with_disk("vda", inside=chain).with_disk("vdb", inside=chain)
    first, second = parse(travelling_xml(vm.xml(), frozenset({"vda"}))).findall("devices/disk")

    assert first.find("backingStore") is None
    assert second.find("backingStore") is not None


def test_a_vm_that_comes_back_is_no_longer_marked_away() -> None:
    away = marked_away(WEB.xml(), "kvm09", "2025-01-02T03:04:05+00:00")
    facts = a_move_of(WEB.having(inactive_xml=away))

    assert "away" in away
    assert "away" not in a_move_plan(facts).domain_xml[0].xml


def test_a_moves_binding_does_not_mind_free_memory_or_space() -> None:
    poorer = a_usual_host("kvm02").having(memory_free_bytes=2 * GIB, memory_bytes=3 * GIB)
    poorer = dataclasses.replace(poorer, pools=a_host().with_pool(free_gib=50).pools)

    for vm in (WEB, WEB.running()):
        before, after = a_move_of(vm), a_move_of(vm, target=poorer)
        assert changed(a_move_plan(before).binding, a_move_plan(after).binding) == ()


def test_a_running_vms_disk_may_grow_but_a_shut_off_ones_may_not() -> None:
    grown = a_vm("web").with_disk("vda", used_gib=3).with_nic()

    live = a_move_plan(a_move_of(WEB.running())), a_move_plan(a_move_of(grown.running()))
    offline = a_move_plan(a_move_of(WEB)), a_move_plan(a_move_of(grown))

    assert changed(live[0].binding, live[1].binding) == ()
    assert changed(offline[0].binding, offline[1].binding)


def _stopped_pool() -> HostBuilder:
    return a_host("kvm02").with_pool(active=False).with_network()


@pytest.mark.parametrize(
    ("later", "word"),
    [
        (a_move_of(WEB), "is shut off"),
        (a_move_of(WEB.running().with_nic(mac="52:54:00:00:00:02")), "definition"),
        (a_move_of(WEB.running(), uuid_on_target=VmState.SHUT_OFF), "was absent"),
        (a_move_of(WEB.running(), name_on_target="x"), "is taken"),
        (a_move_of(WEB.running().having(job="backup")), "is backup"),
        (a_move_of(WEB.running(), files=shared_files(WEB)), "shared"),
        (
            a_move_of(WEB.running(), files={f"{IMAGES}/web-vda.qcow2": TargetFile(exists=True)}),
            "is there",
        ),
        (a_move_of(WEB.running(), target=_stopped_pool()), "not active"),
    ],
    ids=["stopped", "redefined", "twin", "name", "job", "shared now", "file there", "pool"],
)
def test_a_moves_binding_changes_with_what_it_stands_on(later: MigrateFacts, word: str) -> None:
    before = a_move_plan(a_move_of(WEB.running()), mode=MigrateMode.LIVE).binding
    sentences = changed(before, a_move_plan(later, mode=MigrateMode.LIVE).binding)

    assert sentences
    assert any(word in sentence for sentence in sentences)
