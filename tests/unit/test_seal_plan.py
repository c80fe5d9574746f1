"""Sealing and templates before anything is touched: checks, plans, and the marks they leave."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import (
    IMAGES,
    VmBuilder,
    a_clone_of,
    a_host,
    a_usual_host,
    a_vm,
    clone_request,
    new_ids,
)
from twinship.clone.plan import definition, plan_clone
from twinship.domxml.lineage import Base
from twinship.domxml.sealed import Done, Sealed, sealed_of, with_sealed
from twinship.domxml.template import Template, template_of, with_template
from twinship.guestfs import inspect
from twinship.guestfs.inspect import Guest, GuestKind
from twinship.guestfs.sealing import Action, Entry, Manifest
from twinship.hypervisor.content import BlockDigest
from twinship.model.plan import Finding, Plan, Severity
from twinship.model.request import CloneMode, SealChoice, SealRequest, TemplateRequest
from twinship.seal import checks as seal_checks
from twinship.seal.choice import choice_document, choice_from
from twinship.seal.facts import SealFacts
from twinship.seal.look import Look
from twinship.seal.plan import asked_for, plan_seal_vms
from twinship.seal.undo import UNDO, UndoCase, plan_keep, plan_unseal
from twinship.template import checks as template_checks
from twinship.template import plan as template_plan
from twinship.template.facts import TemplateFacts, Version

WEB = a_vm("web").with_disk("vda").with_nic()
UNDO_FILE = f"{IMAGES}/web-vda.qcow2.twinship-undo-1"
SEALED = Sealed(at="2026-01-02T03:04:05Z", guest="Debian GNU/Linux 12", systemd=True)
GOLDEN = Template(name="golden", version=2, of="u", source="web", created="2026-01-02")
LOOK = Look(
    engine="user space",
    guest=Guest(kind=GuestKind.LINUX, name="Debian GNU/Linux 12"),
    manifest=Manifest(
        entries=(Entry(path="/tmp/x", action=Action.REMOVE, bytes=7, operation="tmp-files"),)
    ),
)
SLOW = Look(engine="appliance", why="the guest's disks hold lvm")
HIBERNATED = Finding(code="GUEST_HIBERNATED", severity=Severity.BLOCK, message="it sleeps")


def marked(vm: VmBuilder, text: str) -> VmBuilder:
    """The VM with these marks in its definition."""
    begin, end = text.index("<metadata"), text.index("</metadata>") + len("</metadata>")
    return vm.with_element(text[begin:end])


PENDING = marked(WEB, with_sealed(WEB.xml(), dataclasses.replace(SEALED, undo={"vda": UNDO_FILE})))
KEPT = marked(WEB, with_sealed(WEB.xml(), SEALED))
A_TEMPLATE = marked(WEB, with_sealed(with_template(WEB.xml(), GOLDEN), SEALED))


def a_seal(
    vm: VmBuilder = WEB, *, look: Look = LOOK, free_gib: float = 100, **fields: Any
) -> SealFacts:
    host = a_host().with_pool("images", free_gib=free_gib).facts()
    return SealFacts(vm=vm.facts(), host=host, files={"images": frozenset()}, look=look, **fields)


SEALS: dict[str, tuple[SealFacts, SealFacts]] = {
    "VM_ACTIVE": (a_seal(WEB.running()), a_seal()),
    "IS_TEMPLATE": (a_seal(A_TEMPLATE), a_seal()),
    "BASE_HAS_CHILDREN": (a_seal(children=("a",)), a_seal()),
    "VM_SAVED": (a_seal(WEB.having(managed_save=True)), a_seal()),
    "SEAL_PENDING": (a_seal(PENDING), a_seal(KEPT)),
    "NO_DISK": (a_seal(a_vm("web").with_cdrom()), a_seal()),
    "DISK_NOT_A_FILE": (a_seal(WEB.with_block_disk()), a_seal()),
    "DISK_UNREADABLE": (a_seal(a_vm("web").with_disk(problem="it is gone")), a_seal()),
    "STORAGE_FULL": (a_seal(free_gib=0.01), a_seal()),
    "VM_SNAPSHOTS": (a_seal(WEB.having(snapshots=2)), a_seal()),
    "SEAL_ENGINE": (a_seal(look=SLOW), a_seal()),
}


def an_undo(vm: VmBuilder = PENDING, **fields: Any) -> UndoCase:
    facts = vm.facts()
    return UndoCase(vm=facts, sealed=sealed_of(facts.xml), **fields)


UNDOS: dict[str, tuple[UndoCase, UndoCase]] = {
    "SEAL_NONE": (an_undo(KEPT), an_undo()),
    "VM_ACTIVE": (an_undo(PENDING.running()), an_undo()),
    "SEAL_STALE": (an_undo(changed=("/a",)), an_undo(KEPT, changed=("/a",))),
    "SEAL_LOST": (an_undo(missing=(UNDO_FILE,)), an_undo()),
    "BASE_HAS_CHILDREN": (an_undo(children=("a",)), an_undo()),
    "DISK_UNREADABLE": (an_undo(a_vm("web").with_disk(problem="it is gone")), an_undo()),
}


def a_template(
    vm: VmBuilder = WEB,
    *,
    names: tuple[str, ...] = (),
    versions: tuple[Version, ...] = (),
    look: Look = LOOK,
    **request: Any,
) -> template_checks.TemplateCase:
    clone = a_clone_of(vm, on=a_usual_host(), names=frozenset({"web", *names}))
    return template_checks.TemplateCase(
        facts=TemplateFacts(clone=clone, versions=versions, look=look),
        request=TemplateRequest(name="golden", vm="web", **request),
    )


V2 = Version(uuid="v2", vm_name="golden", template=GOLDEN)
TEMPLATES = {
    "TEMPLATE_EXISTS": (a_template(versions=(V2,)), a_template(versions=(V2,), new_version=True)),
    "TEMPLATE_NONE": (a_template(new_version=True), a_template()),
    "TEMPLATE_NAME": (
        a_template(versions=(V2,), new_version=True, names=("golden-v2",)),
        a_template(versions=(V2,), new_version=True),
    ),
    "IS_TEMPLATE": (a_template(A_TEMPLATE), a_template()),
    "NO_DISK": (a_template(a_vm("web")), a_template(a_vm("web"), seal=False)),
    "GUEST_LATER": (a_template(WEB.running()), a_template()),
    "SEAL_ENGINE": (a_template(look=SLOW), a_template()),
}

CASES = [
    *((seal_checks.TABLE, code, pair) for code, pair in SEALS.items()),
    *((UNDO, code, pair) for code, pair in UNDOS.items()),
    *((template_checks.TABLE, code, pair) for code, pair in TEMPLATES.items()),
]


def test_every_check_has_a_case() -> None:
    assert sorted(SEALS) == sorted(row.code for row in seal_checks.TABLE.rows)
    assert sorted(UNDOS) == sorted(row.code for row in UNDO.rows)
    assert sorted(TEMPLATES) == sorted(row.code for row in template_checks.TABLE.rows)


@pytest.mark.parametrize(("table", "code", "pair"), CASES, ids=[case[1] for case in CASES])
def test_a_check_speaks_only_where_something_is_wrong(
    table: Any, code: str, pair: tuple[Any, Any]
) -> None:
    speaks, silent = pair
    assert code in {found.code for found in table.run(speaks)}
    assert code not in {found.code for found in table.run(silent)}


def test_every_refusal_of_a_guest_is_explained() -> None:
    source = Path(inspect.__file__).parents[1]
    texts = [
        (source / name).read_text()
        for name in ("guestfs/inspect.py", "guestfs/mounting.py", "seal/look.py")
    ]
    raised = {
        code
        for text in texts
        for code in re.findall(r'"((?:GUEST|KEY|FILESYSTEM|NO_FILESYSTEM)[A-Z_]*)"', text)
    }
    assert raised - {"GUEST_REFUSED"} == set(inspect.REFUSALS)


def planned(facts: SealFacts | None = None, **request: Any) -> Plan:
    return plan_seal_vms([facts or a_seal()], SealRequest(vms=("web",), **request), "abcd")


def test_the_plan_of_a_seal_shows_every_path_and_holds_no_key() -> None:
    choice = SealChoice(keys=(("", "/root/luks-key"),), except_=("logs",))
    plan = planned(choice=choice)

    assert plan.feasible
    assert plan.manifest is not None
    (guest,) = plan.manifest["guests"]
    assert guest["entries"][0]["path"] == "/tmp/x"
    assert asked_for(json.loads(json.dumps(plan.spec))).choice == choice
    assert plan.resources[0] == f"vm/{WEB.uuid}"
    assert plan.resources[1].endswith("web-vda.qcow2.twinship-undo-abcd")


def test_vms_of_one_name_on_two_hosts_are_told_apart() -> None:
    ours = a_seal()
    host = a_host("kvm02").with_pool("images").facts()
    theirs = dataclasses.replace(a_seal(WEB.on("kvm02"), children=("a",)), host=host)
    both = plan_seal_vms([ours, theirs], SealRequest(vms=("web",) * 2, commit=True), "abcd")
    ids = [step.id for step in both.steps]
    assert len(set(ids)) == len(ids) == 8
    assert {step.host for step in both.steps if step.id.startswith("clean")} == {"kvm01", "kvm02"}
    assert both.binding["the VMs that stand on kvm01/web"] == "none"
    assert both.binding["the VMs that stand on kvm02/web"] == "a"
    assert {"disk vda of kvm01/web", "disk vda of kvm02/web"} <= set(both.binding)


def test_what_speaks_against_the_guest_blocks_the_plan() -> None:
    assert not planned(a_seal(look=Look(findings=(HIBERNATED,)))).feasible


def test_a_file_that_is_there_is_not_taken_for_ours() -> None:
    facts = a_seal()
    there = frozenset({"web-vda.qcow2.twinship-undo-abcd"})
    plan = planned(dataclasses.replace(facts, files={"images": there}))
    assert plan.spec["vms"][0]["disks"][0]["undo"]["file"] == "web-vda.qcow2.twinship-undo-abcd-2"


def test_undoing_and_keeping_name_the_file_that_goes() -> None:
    undo, keep = plan_unseal(an_undo()), plan_keep(an_undo())
    assert undo.spec["files"] == keep.spec["files"] == [UNDO_FILE]
    assert [step.id for step in undo.steps] == ["restore:vda", "forget", f"delete:{UNDO_FILE}"]
    assert [step.id for step in keep.steps] == ["forget", f"delete:{UNDO_FILE}"]
    assert keep.feasible
    assert plan_keep(an_undo(PENDING.running(), changed=("/a",))).feasible


def test_a_template_is_a_clone_that_is_sealed_before_it_is_defined() -> None:
    case = a_template()
    plan = template_plan.plan_template(case.facts, case.request, new_ids())

    ids = [step.id for step in plan.steps]
    assert ids.index("volume:vda") < ids.index("seal") < ids.index("digest") < ids.index("define")
    assert plan.spec["template"] == {"name": "golden", "version": 1, "replaces": None}
    assert template_plan.asked_for(json.loads(json.dumps(plan.spec))).name == "golden"


def test_a_new_version_takes_the_name_of_the_one_before() -> None:
    case = a_template(versions=(V2,), new_version=True)
    plan = template_plan.plan_template(case.facts, case.request, new_ids())

    assert plan.spec["template"]["version"] == 3
    assert plan.spec["template"]["replaces"] == {"uuid": "v2", "name": "golden-v2"}
    assert "vm/v2" in plan.resources
    assert "name/kvm01/golden-v2" in plan.resources


def test_a_clone_of_a_template_is_linked_and_told_its_name() -> None:
    facts = a_clone_of(A_TEMPLATE, on=a_usual_host())
    plan = plan_clone(facts, clone_request(name="web-2"), new_ids())
    text = definition(A_TEMPLATE.xml(), plan.spec)

    assert [disk["method"] for disk in plan.spec["disks"]] == ["overlay"]
    assert plan.spec["settings"]["hostname"] == "web-2"
    assert (sealed_of(text), template_of(text)) == (None, None)
    assert 'template="golden" version="2"' in text


def test_a_full_clone_of_a_template_is_full_when_asked() -> None:
    facts = a_clone_of(A_TEMPLATE, on=a_usual_host())
    plan = plan_clone(facts, clone_request(name="web-2", mode=CloneMode.FULL), new_ids())
    assert "overlay" not in [disk["method"] for disk in plan.spec["disks"]]


def test_a_choice_comes_back_from_a_spec() -> None:
    choice = SealChoice(only=("a",), also=("b",), own=("/x.toml",), keys=(("u", "/k"),))
    assert choice_from(json.loads(json.dumps(choice_document(choice)))) == choice


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20).filter(
    lambda text: "\ufffe" not in text and "\uffff" not in text
)
lines = words.filter(bool)
marks = st.builds(
    Sealed,
    at=words,
    guest=words,
    systemd=st.booleans(),
    cloud_init=st.booleans(),
    done=st.lists(
        st.builds(
            Done,
            name=words,
            paths=st.integers(0, 9),
            bytes=st.integers(0, 2**60),
            listed=st.lists(lines, max_size=3).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
    undo=st.dictionaries(words, words, max_size=2),
    disks=st.lists(
        st.builds(Base, path=words, length_bytes=st.integers(0, 9), changed=words, header=words),
        max_size=2,
    ).map(tuple),
)


@given(marks)
def test_a_mark_is_read_back_as_it_was_written(written: Sealed) -> None:
    text = with_template(with_sealed("<domain><name>a</name></domain>", written), GOLDEN)
    assert sealed_of(text) == written
    assert template_of(text) == GOLDEN


def test_a_list_of_paths_that_is_too_long_is_left_out_and_counted() -> None:
    done = Done(
        name="logs", paths=9999, bytes=1, listed=tuple(f"/var/log/{n}" for n in range(9999))
    )
    read = sealed_of(with_sealed("<domain/>", dataclasses.replace(SEALED, done=(done,))))
    assert read is not None
    assert read.done == (dataclasses.replace(done, listed=()),)


pieces = st.lists(st.tuples(st.booleans(), st.integers(1, 150_000)), max_size=6)


@given(pieces, st.integers(1, 70_000))
def test_a_digest_is_of_the_content_however_it_came(
    parts: list[tuple[bool, int]], size: int
) -> None:
    holes, plain, content = BlockDigest(), BlockDigest(), b""
    for hole, length in parts:
        data = bytes(length) if hole else b"x" * length
        content += data
        if hole:
            holes.skip(length)
        else:
            holes.add(data)
    for at in range(0, len(content), size):
        plain.add(content[at : at + size])
    assert holes.digest() == plain.digest()


def test_a_digest_sees_a_block_that_moved() -> None:
    one, other = BlockDigest(), BlockDigest()
    one.add(b"a" * 65536 + bytes(65536))
    other.add(bytes(65536) + b"a" * 65536)
    assert one.digest() != other.digest()
