"""Which way each disk goes, and when a file on the target is taken for a disk's base."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from tests.builders import GIB, IMAGES, a_move_of, a_vm, move_request, new_ids
from twinship.domxml.lineage import Base
from twinship.domxml.records import NamedFile, snapshot_files
from twinship.domxml.secrets import secret_refs
from twinship.migrate.bases import BaseThere, judge
from twinship.migrate.disks import Way, routes
from twinship.migrate.facts import (
    MigrateFacts,
    RecordFacts,
    SecretFacts,
    SecretThere,
    StorageFacts,
    TargetFile,
)
from twinship.migrate.plan import plan_migrate
from twinship.migrate.spec import SCHEMA, upgraded
from twinship.model.plan import Plan
from twinship.model.request import StorageWay
from twinship.model.vm import Layer

TOP, BASE, ROOT = (f"{IMAGES}/{name}" for name in ("web-vda.qcow2", "base.qcow2", "root.qcow2"))
CHAIN = a_vm("web").with_disk("vda", backing=(BASE, ROOT))
HERE = Base(path=BASE, length_bytes=7, changed="1.1", header="aa")


def facts_with(vm: Any = CHAIN, **there: BaseThere) -> MigrateFacts:
    """A move where the target has files at these paths (``base``, ``root``)."""
    paths = {"base": BASE, "root": ROOT, "top": TOP}
    files = {layer.path: TargetFile(exists=False) for layer in vm.facts().disks[0].chain}
    files |= {paths[name]: TargetFile(exists=True) for name in there}
    bases = {paths[name]: base for name, base in there.items()}
    return a_move_of(vm, files=files, storage=StorageFacts(bases=bases))


def known(*, alike: bool = True, known: bool = True) -> BaseThere:
    return BaseThere(alike=alike, known=known, why="so it is")


def paths(layers: tuple[Layer, ...]) -> list[str]:
    return [layer.path.rpartition("/")[2] for layer in layers]


def a_plan(facts: MigrateFacts, **request: Any) -> Plan:
    return plan_migrate(facts, move_request(**request), new_ids(0))


@pytest.mark.parametrize(
    ("there", "carried", "standing"),
    [
        ({}, ["web-vda.qcow2", "base.qcow2", "root.qcow2"], []),
        ({"root": known()}, ["web-vda.qcow2", "base.qcow2"], ["root.qcow2"]),
        (
            {"base": known(), "root": known()},
            ["web-vda.qcow2"],
            ["base.qcow2", "root.qcow2"],
        ),
    ],
)
def test_an_offline_move_leaves_out_what_the_target_has(
    there: dict[str, BaseThere], carried: list[str], standing: list[str]
) -> None:
    (route,) = routes(facts_with(**there), move_request(), live=False)

    assert (paths(route.layers), paths(route.standing)) == (carried, standing)
    assert route.way is (Way.INCREMENT if standing else Way.COPY)


def test_a_live_move_carries_a_missing_base_first_and_then_the_top_alone() -> None:
    (route,) = routes(facts_with(CHAIN.running(), root=known()), move_request(), live=True)

    assert route.way is Way.INCREMENT
    assert paths(route.before) == ["base.qcow2"]
    assert paths(route.layers) == ["web-vda.qcow2"]


def test_a_live_increment_says_its_steps_and_its_bytes() -> None:
    plan = a_plan(facts_with(CHAIN.running(), root=known()))

    assert [step.id for step in plan.steps] == [
        f"base:{ROOT}",
        f"volume:{BASE}",
        f"carry:{BASE}",
        f"volume:{TOP}",
        "move",
        "undefine",
    ]
    assert plan.bytes == 2 * GIB + GIB
    assert f"an overlay upon {BASE}" in plan.steps[3].title
    assert f"read:file/kvm02/{ROOT}" in plan.resources
    (layer,) = plan.spec["disks"][0]["layers"]
    assert layer["backing"] == BASE


def test_all_disks_of_a_live_move_go_one_way() -> None:
    vm = a_vm("web").with_disk("vda", backing=(BASE,)).with_disk("vdb", backing=("/no/pool",))

    flat = routes(a_move_of(vm.running()), move_request(), live=True)

    assert [route.way for route in flat] == [Way.COPY, Way.COPY]
    assert "of vdb it has to" in flat[0].why
    insisted = move_request(storage=StorageWay.INCREMENT)
    asked = routes(a_move_of(vm.running()), insisted, live=True)
    assert [route.way for route in asked] == [Way.INCREMENT, Way.INCREMENT]


def test_a_disk_without_a_base_goes_beside_an_increment() -> None:
    vm = a_vm("web").with_disk("vda", backing=(BASE,)).with_disk("vdb")

    found = routes(a_move_of(vm.running()), move_request(), live=True)

    assert [route.way for route in found] == [Way.INCREMENT, Way.COPY]


@pytest.mark.parametrize("live", [False, True])
def test_storage_copy_never_stands_on_what_is_there(live: bool) -> None:
    vm = CHAIN.running() if live else CHAIN
    facts = facts_with(vm, base=known(), root=known())

    (route,) = routes(facts, move_request(storage=StorageWay.COPY), live=live)

    assert route.way is Way.COPY
    assert route.standing == ()
    assert len(route.layers) == (1 if live else 3)


def test_comparing_bases_is_paid_in_bytes_and_says_so() -> None:
    facts = facts_with(base=known(known=False), root=known())

    plan = a_plan(facts, verify=True)

    compared = {step.id: step.bytes for step in plan.steps if step.id.startswith("base:")}
    assert compared == {f"base:{BASE}": 2 * GIB, f"base:{ROOT}": 2 * GIB}
    assert plan.feasible


def test_a_file_that_a_running_vm_reads_is_read_through_an_overlay() -> None:
    storage = StorageFacts(readers={BASE: ("other",)})
    files = a_plan(dataclasses.replace(a_move_of(CHAIN), storage=storage)).spec["disks"][0]

    assert [layer["through"] for layer in files["layers"]] == [False, True, False]


def test_everything_that_goes_along_is_a_step() -> None:
    medium = Layer(path=f"{IMAGES}/a.iso", pool="images", allocated_bytes=9, length_bytes=9)
    memory = Layer(path=f"{IMAGES}/web.memory", pool="images", allocated_bytes=5, length_bytes=5)
    vm = (
        CHAIN.with_cdrom(medium.path)
        .with_nvram("/nvram/web")
        .with_device("<tpm><backend type='emulator' version='2.0'/></tpm>")
    )
    disks = tuple(
        dataclasses.replace(disk, chain=(medium,)) if disk.readonly else disk
        for disk in vm.facts().disks
    )
    secret = SecretFacts(what="disk vda", spoken="u", uuid="u", here=SecretThere.READABLE)
    storage = StorageFacts(
        secrets=(secret,), records=RecordFacts(snapshots=("s1", "s2"), files=(memory,))
    )
    facts = a_move_of(vm.having(disks=disks), media={medium.path: False}, storage=storage)
    files = {**facts.files, medium.path: TargetFile(exists=False)}

    plan = a_plan(dataclasses.replace(facts, files=files))

    assert plan.feasible
    assert [step.id for step in plan.steps if not step.id.startswith("volume:")] == [
        "secret:u",
        *(f"carry:{path}" for path in (TOP, BASE, ROOT, medium.path, memory.path)),
        "nvram",
        "tpm",
        "verify",
        "define",
        "snapshots",
        "undefine",
    ]
    assert plan.spec["tpm"].endswith(f"{vm.uuid}/tpm2")
    assert plan.bytes == 3 * GIB + 14


def test_a_spec_of_an_older_version_is_run_as_it_was_meant() -> None:
    spec = dict(a_plan(a_move_of(CHAIN)).spec)
    second = json.loads(json.dumps(spec | {"schema": 2}))
    for disk in second["disks"]:
        for file in (disk, *disk["layers"]):
            del file["there"]
    assert upgraded(second) == spec

    new = ("along", "bases", "secrets", "tpm", "records")
    old = {key: value for key, value in spec.items() if key not in new} | {"schema": 1}
    old = json.loads(json.dumps(old))
    for disk in old["disks"]:
        del disk["kind"]
        del disk["there"]
        for layer in disk["layers"]:
            for key in ("there", "through", "backing", "backing_format"):
                del layer[key]

    assert upgraded(old) == spec
    assert spec["schema"] == SCHEMA


# Is it the same file?


@pytest.mark.parametrize(
    ("there", "ours", "theirs", "verdict"),
    [
        ({"length_bytes": 8}, (), (), (False, False)),
        ({"header": "bb"}, (), (), (False, False)),
        ({"changed": "2.2"}, (), (), (True, False)),
        ({}, (), (), (True, True)),  # the very time of change: rsync -a, or the file of old
        # A sibling brought it: its mark there tells when it was born.
        ({"changed": "2.2"}, ({},), ({"changed": "2.2", "born": "1.1"},), (True, True)),
        ({"changed": "2.2"}, (), ({"changed": "2.2", "born": "1.1"},), (True, True)),
        (
            {"changed": "2.2"},
            ({"born": "0.9"},),
            ({"changed": "2.2", "born": "0.9"},),
            (True, True),
        ),
        ({"changed": "2.2"}, ({},), ({"changed": "2.2", "born": "0.9"},), (True, False)),
        # A mark that is no longer true of its file is not believed.
        ({"changed": "3.3"}, ({},), ({"changed": "2.2", "born": "1.1"},), (True, False)),
        (
            {"changed": "2.2"},
            ({"digest": "d"},),
            ({"changed": "2.2", "digest": "d"},),
            (True, True),
        ),
        (
            {"changed": "2.2"},
            ({"digest": "d", "changed": "0.1"},),
            ({"changed": "2.2", "digest": "d"},),
            (True, False),
        ),
        (
            {"changed": "2.2"},
            ({"digest": ""},),
            ({"changed": "2.2", "digest": ""},),
            (True, False),
        ),
    ],
)
def test_a_file_is_the_base_only_if_a_note_tells_it(
    there: dict[str, Any],
    ours: tuple[dict[str, Any], ...],
    theirs: tuple[dict[str, Any], ...],
    verdict: tuple[bool, bool],
) -> None:
    found = judge(
        HERE,
        dataclasses.replace(HERE, **there),
        [dataclasses.replace(HERE, **mark) for mark in ours],
        [dataclasses.replace(HERE, **mark) for mark in theirs],
    )

    assert (found.alike, found.known) == verdict
    assert found.why


# What a definition and a snapshot name


def test_every_secret_is_found_once() -> None:
    inside = "<encryption format='luks'><secret type='passphrase' uuid='u1'/></encryption>"
    vm = (
        a_vm()
        .with_disk("vda", inside=inside)
        .with_disk("vdb", inside=inside)
        .with_network_disk(
            "vdc", inside="<auth username='x'><secret type='ceph' usage='cluster'/></auth>"
        )
        .with_device("<tpm><backend type='emulator'><encryption secret='u2'/></backend></tpm>")
        .with_device("<interface type='network'><secret uuid='u3'/></interface>")
    )

    found = [(ref.what, ref.uuid, ref.kind, ref.usage) for ref in secret_refs(vm.xml())]

    assert found == [
        ("disk vda", "u1", "", ""),
        ("disk vdc", "", "ceph", "cluster"),
        ("the TPM", "u2", "", ""),
    ]


def test_a_snapshot_names_its_disks_of_then_and_its_memory() -> None:
    domain = a_vm().with_disk(path="/i/a.qcow2").with_cdrom("/i/a.iso").xml()
    text = (
        "<domainsnapshot><memory snapshot='external' file='/i/m'/><disks>"
        "<disk name='vda' snapshot='external'><driver type='qcow2'/><source file='/i/b'/></disk>"
        f"<disk name='vdb' snapshot='no'/></disks>{domain}</domainsnapshot>"
    )

    assert snapshot_files(text) == (
        NamedFile("/i/m"),
        NamedFile("/i/b", "qcow2"),
        NamedFile("/i/a.qcow2", "qcow2"),
    )
