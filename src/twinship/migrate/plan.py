"""The plan of a move: pure, the same facts and ids give the same plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from twinship.domxml.refit import Rewrite, refitted, rewrite_from
from twinship.domxml.rewrite import (
    redacted,
    with_mark,
    with_sparse_targets,
    without_chains,
    without_mark,
)
from twinship.migrate.belongings import belongings
from twinship.migrate.checks import TABLE
from twinship.migrate.checks.case import MigrateCase
from twinship.migrate.cures import cured, difference
from twinship.migrate.disks import routes
from twinship.migrate.facts import MigrateFacts
from twinship.migrate.outlook import forecast
from twinship.migrate.spec import files_of, spec_of
from twinship.migrate.steps import steps_of
from twinship.model.plan import Plan, PlannedXml
from twinship.model.request import MigrateMode, MigrateRequest, NewIds, PostCopyWay, StorageWay
from twinship.model.vm import VmState
from twinship.planning.slots import move_slots


def plan_migrate(facts: MigrateFacts, request: MigrateRequest, ids: NewIds) -> Plan:
    """What moving ``request.vm`` to ``request.target`` would do."""
    mode = _mode(facts, request)
    live = mode is not MigrateMode.OFFLINE
    found = routes(facts, request, live=live)
    along = belongings(facts, found, live=live)
    case = MigrateCase(facts=facts, request=request, mode=mode, routes=found, along=along)
    spec = spec_of(case, ids)
    checks, rewrites = cured(case, TABLE.run(case))
    told = forecast(case)
    spec["forecast"] = asdict(told) if told is not None else None
    spec["rewrites"] = [rewrite.as_dict() for rewrite in rewrites]
    vm = facts.vm.vm
    target = facts.target.name
    before = redacted(definition(facts.vm.xml))
    after = redacted(definition(facts.vm.xml, rewrites))
    files = files_of(spec)
    return Plan(
        kind="migrate",
        title=f"move {vm.label} to {target} ({mode.value})",
        checks=checks,
        steps=steps_of(case, spec),
        estimate_s=None,
        forecast=told,
        diff=difference(before, after, vm.label, f"{target}/{vm.name}"),
        domain_xml=(PlannedXml(name=vm.name, host=target, xml=after),),
        resources=(
            f"vm/{vm.uuid}",
            f"name/{target}/{vm.name}",
            *(f"file/{target}/{path}" for path in dict.fromkeys(file["there"] for file in files)),
            *(f"read:file/{target}/{base['there']}" for base in spec["bases"]),
        ),
        slots=move_slots(vm.host, target, (file["pool"] for file in files)),
        spec=spec,
        binding=spec["binding"],
    )


def asked_for(spec: Mapping[str, Any]) -> MigrateRequest:
    """The request a spec was made of."""
    asked = dict(spec["request"])
    asked.update(
        mode=MigrateMode(asked["mode"]),
        storage=StorageWay(asked["storage"]),
        post_copy=PostCopyWay(asked.get("post_copy", "never")),
        maps=tuple((old, new) for old, new in asked.get("maps", ())),
    )
    return MigrateRequest(**asked)


def definition(source_xml: str, rewrites: Iterable[Rewrite] = ()) -> str:
    """The definition on the target: the source's, without our note that the VM is away."""
    return refitted(without_mark(source_xml, "away"), rewrites)


def rewrites_of(spec: Mapping[str, Any]) -> tuple[Rewrite, ...]:
    """What a spec changes in the definition."""
    return tuple(rewrite_from(one) for one in spec.get("rewrites", ()))


def travelling_xml(
    migratable_xml: str, copied: frozenset[str], rewrites: Iterable[Rewrite] = ()
) -> str:
    """What the target's QEMU is started as for a live move: copies arrive thin.

    What they are based on there, QEMU reads from the files themselves.
    """
    text = definition(migratable_xml, rewrites)
    return with_sparse_targets(without_chains(text, copied), copied)


def marked_away(source_xml: str, target: str, at: str) -> str:
    """The definition that stays at the source, with the note where the VM is."""
    return with_mark(source_xml, "away", {"host": target, "since": at})


def _mode(facts: MigrateFacts, request: MigrateRequest) -> MigrateMode:
    if request.mode is not MigrateMode.AUTO:
        return request.mode
    state = facts.vm.vm.state
    if state is VmState.PAUSED:
        return MigrateMode.NON_LIVE
    return MigrateMode.LIVE if state.active else MigrateMode.OFFLINE
