"""The plan of many moves: all checks joined, the target seen as those before leave it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from tests.builders import (
    GIB,
    IMAGES,
    HostBuilder,
    VmBuilder,
    a_move_of,
    a_usual_host,
    a_vm,
    move_request,
    new_ids,
    shared_files,
)
from twinship.domxml.template import Template, with_template
from twinship.migrate.many import Moving, left_behind, load_of, plan_moves
from twinship.migrate.order import SMALL_BYTES
from twinship.model.documents import plan_document
from twinship.model.plan import Plan, Severity
from twinship.model.request import StorageWay

LIMITS = {"in": 2, "out": 2, "small": 6, "pool": 4, "total": 16}
ROOMY = a_usual_host("kvm02")


def moving(
    vm: VmBuilder, target: HostBuilder = ROOMY, *, resident_gib: float = 0, **facts: Any
) -> Moving:
    return Moving(
        facts=a_move_of(vm, target=target, source=a_usual_host(vm.host), **facts),
        request=move_request(f"{vm.host}/{vm.uuid}"),
        ids=new_ids(0),
        resident_bytes=int(resident_gib * GIB),
    )


def shared(vm: VmBuilder, **more: Any) -> Moving:
    return moving(vm, files=shared_files(vm), **more)


def plan_of(*every: Moving, **more: Any) -> Plan:
    return plan_moves(every, target="kvm02", limits=LIMITS, **({"keep_going": False} | more))


def names(plan: Plan) -> list[str]:
    return [move["spec"]["vm"]["name"] for move in plan.spec["moves"]]


def a_named(name: str, number: int, **fields: Any) -> VmBuilder:
    return a_vm(name, uuid=f"00000000-0000-4000-8000-{number:012}", **fields)


WEB, DB, APP = (
    a_named(name, at).with_memory(gib=4) for at, name in enumerate(("web", "db", "app"))
)


def test_the_moves_are_in_the_order_in_which_they_begin_and_their_steps_say_whose() -> None:
    plan = plan_of(
        moving(WEB),
        shared(DB.running()),
        moving(APP.running().with_disk("vda", path=f"{IMAGES}/app.qcow2", used_gib=1)),
    )

    assert names(plan) == ["app", "db", "web"]
    assert plan.title == "move 3 VMs from kvm01 to kvm02"
    assert plan.steps[0].title.startswith("app: ")
    assert len({step.id for step in plan.steps}) == len(plan.steps)
    assert plan.bytes == sum(step.bytes for step in plan.steps)
    assert {f"vm/{vm.uuid}" for vm in (WEB, DB, APP)} <= set(plan.resources)


def test_the_spec_survives_json_and_is_the_same_for_the_same_facts() -> None:
    every = (moving(WEB), shared(DB.running()))
    plan = plan_of(*every)

    assert json.loads(json.dumps(plan.spec)) == plan.spec
    assert json.loads(json.dumps(plan_document(plan))) == plan_document(plan)
    assert plan_of(*every) == plan


def test_the_memory_of_all_has_to_fit() -> None:
    tight = ROOMY.having(memory_free_bytes=5 * GIB)
    both = [shared(vm.running(), target=tight) for vm in (WEB, DB)]
    assert both[0].facts.summary.memory_bytes == 4 * GIB

    plan = plan_of(*both)

    (short,) = [check for check in plan.checks if check.code == "MEMORY_SHORT"]
    assert short.severity is Severity.BLOCK
    assert short.object == "vm/db", "the first fits, the second does not"
    assert "1.0 GiB free" in short.message
    assert plan_of(both[0]).feasible


def test_the_copies_of_all_have_to_fit_into_a_pool() -> None:
    tight = a_usual_host("kvm02").having(pools=a_usual_host().with_pool(free_gib=3).pools[1:])
    copied = [
        moving(vm.with_disk("vda", path=f"{IMAGES}/{vm.name}.qcow2", used_gib=2), target=tight)
        for vm in (WEB, DB)
    ]

    plan = plan_of(*copied)

    (full,) = [check for check in plan.checks if check.code == "STORAGE_FULL"]
    assert full.object == "vm/db/pool/images"
    assert "1.0 GiB left" in full.message


def test_what_holds_for_all_is_said_once_and_what_does_not_names_its_vm() -> None:
    old = ROOMY.having(qemu_version=(6, 2, 0), security_models=())
    every = [shared(vm.running(), target=old) for vm in (WEB, DB)]

    plan = plan_of(*every)
    older = [check for check in plan.checks if check.code == "HOST_OLDER"]
    assert [check.object for check in older] == [""]

    mixed = plan_of(shared(WEB.running(), target=old), shared(DB, target=old))
    older = [check for check in mixed.checks if check.code == "HOST_OLDER"]
    assert [check.object for check in older] == ["vm/web"]


def test_two_of_one_name_or_with_one_file_do_not_go_to_one_host() -> None:
    here = WEB.with_disk("vda", path=f"{IMAGES}/web.qcow2")
    there = a_named("web", 9, host="kvm03").with_disk("vda", path=f"{IMAGES}/web.qcow2")

    plan = plan_of(moving(here), moving(there))

    clashes = [check.message for check in plan.checks if check.code == "MOVES_CLASH"]
    assert clashes == [
        "kvm01/web and kvm03/web both bring the name web to kvm02",
        f"kvm01/web and kvm03/web both bring {IMAGES}/web.qcow2 to kvm02",
    ]
    assert not plan.feasible


def test_two_linked_clones_that_bring_their_base_are_refused_with_the_cure() -> None:
    base = f"{IMAGES}/base.qcow2"
    clones = [
        vm.with_disk("vda", path=f"{IMAGES}/{vm.name}.qcow2", backing=(base,)) for vm in (WEB, DB)
    ]

    plan = plan_of(*map(moving, clones))

    (clash,) = [check for check in plan.checks if check.code == "MOVES_CLASH"]
    assert base in clash.message
    assert "twinship vm flatten kvm01/db" in clash.hint
    assert "move kvm01/web first" in clash.hint
    running = [moving(vm.running()) for vm in clones]
    assert not plan_of(*running).feasible
    # Copies that are flat bring no base along.
    flat = [replace(one, request=replace(one.request, storage=StorageWay.COPY)) for one in running]
    assert plan_of(*flat).feasible


def test_a_base_named_explicitly_is_refused() -> None:
    plan = plan_of(moving(WEB, children=("w1", "w2")), moving(DB))

    assert [check.code for check in plan.checks if check.severity is Severity.BLOCK] == [
        "BASE_HAS_CHILDREN"
    ]


def test_of_a_whole_host_bases_and_templates_stay_and_the_plan_says_why() -> None:
    template = Template(name="golden", version=1, of="", source="web", created="")
    golden = moving(a_named("golden", 7)).facts
    marked = with_template(golden.vm.inactive_xml, template)
    facts = moving(a_named("golden", 7)).facts
    stays = [
        left_behind(moving(WEB, children=("w1", "w2")).facts),
        left_behind(a_move_of(a_named("golden", 7).having(inactive_xml=marked), target=ROOMY)),
    ]
    assert left_behind(facts) is None
    left = [each for each in stays if each is not None]
    assert [each.reason for each in left] == ["it is the base of w1, w2", "it is a template"]

    plan = plan_of(moving(DB), left=left)

    assert plan.feasible
    told = [check for check in plan.checks if check.code == "LEFT_BEHIND"]
    assert [check.object for check in told] == ["vm/web", "vm/golden"]
    assert all(check.severity is Severity.WARN and check.hint for check in told)
    assert [each["vm"] for each in plan.spec["left"]] == ["web", "golden"]


def test_an_empty_host_gives_an_empty_plan() -> None:
    plan = plan_of()

    assert plan.feasible
    assert plan.spec["moves"] == []
    assert plan.title == "move 0 VMs to kvm02"


def test_idle_ones_take_no_place_of_moves_that_fill_the_link() -> None:
    small = plan_of(shared(WEB.running(), resident_gib=0.2)).spec["moves"][0]
    large = plan_of(shared(WEB.running(), resident_gib=3)).spec["moves"][0]
    unknown = plan_of(shared(WEB.running())).spec["moves"][0]

    assert load_of(small).memory_bytes < SMALL_BYTES
    assert load_of(small).slots == ("small/kvm01", "small/kvm02", "total")
    assert load_of(large).slots == load_of(unknown).slots == ("out/kvm01", "in/kvm02", "total")
    assert load_of(unknown).memory_bytes == 4 * GIB
    assert small["spec"]["memory_expected"] == int(0.2 * GIB)


def test_a_rate_is_shared_by_those_that_go_at_a_time() -> None:
    every = [shared(vm.running(), resident_gib=0.2) for vm in (WEB, DB, APP)]

    plan = plan_of(*every, rate=100 * 2**20)

    assert plan.spec["at_once"] == 2
    assert {move["spec"]["rate"] for move in plan.spec["moves"]} == {50 * 2**20}
    assert all("out/kvm01" in move["load"]["slots"] for move in plan.spec["moves"])
    # libvirt knows no less than 1 MiB/s: rather one after the other than more than was allowed.
    slow = plan_of(*every, rate=3 * 2**20 // 2)
    assert slow.spec["at_once"] == 1
