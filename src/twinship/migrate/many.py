"""The plan of many moves to one host: pure. Each sees the target as those before leave it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from twinship.domxml.template import template_of
from twinship.migrate.checks.together import TOGETHER, Left, Together
from twinship.migrate.facts import MigrateFacts
from twinship.migrate.order import MIB, Load, ordered
from twinship.migrate.plan import plan_migrate
from twinship.model.plan import Finding, Plan, Severity
from twinship.model.request import MigrateRequest, NewIds
from twinship.planning.slots import small_move_slots

OURS = "twinship-"
"""How the passing VMs of our own operations are called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving:
    """One VM with what is known for its move. ``resident_bytes``: memory in use; 0: not known."""

    facts: MigrateFacts
    request: MigrateRequest
    ids: NewIds
    resident_bytes: int = 0


def left_behind(facts: MigrateFacts) -> Left | None:
    """Why a VM stays when all of its host are to move; None for one that moves."""
    vm = facts.vm.vm
    if facts.children:
        more = f" and {len(facts.children) - 3} more" if facts.children[3:] else ""
        return Left(
            vm=vm.name,
            host=vm.host,
            reason=f"it is the base of {', '.join(facts.children[:3])}{more}",
            hint=f"make them independent first: twinship vm flatten {facts.children[0]}",
        )
    if template_of(facts.vm.inactive_xml) is not None:
        return Left(
            vm=vm.name,
            host=vm.host,
            reason="it is a template",
            hint=f"move it by its name: twinship migrate {vm.label} --to {facts.target.name}",
        )
    return None


def plan_moves(
    moving: Sequence[Moving],
    *,
    target: str,
    left: Sequence[Left] = (),
    keep_going: bool,
    limits: Mapping[str, int],
    rate: int = 0,
) -> Plan:
    """What moving all of them to one host would do, in the order in which they will begin.

    ``rate`` is the total of all (bytes/s, 0 for no limit): those at work share it evenly.
    """
    at_once = _at_once(len(moving), limits, rate)
    share = rate // at_once if rate else 0
    planned = [_planned(each, share) for each in moving]
    order = ordered([load for _, load in planned])
    first, taken = [planned[at] for at in order], _Taken()
    plans: list[Plan] = []
    for at, (_, load) in zip(order, first, strict=True):
        each = moving[at]
        request = replace(each.request, rate=share)
        plan = plan_migrate(taken.seen_by(each.facts), request, each.ids)
        plans.append(replace(plan, slots=load.slots))
        taken.add(plan)
    sources = sorted({plan.spec["source"] for plan in plans})
    return Plan(
        kind="moves",
        title=f"move {len(plans)} {'VM' if len(plans) == 1 else 'VMs'}"
        + (f" from {', '.join(sources)}" if sources else "")
        + f" to {target}",
        checks=_joined(plans, left),
        steps=tuple(
            replace(
                step,
                id=f"{plan.spec['source']}/{plan.spec['vm']['name']}:{step.id}",
                title=f"{plan.spec['vm']['name']}: {step.title}",
            )
            for plan in plans
            for step in plan.steps
        ),
        estimate_s=None,
        forecast=next((plan.forecast for plan in plans if plan.forecast is not None), None),
        diff="".join(plan.diff for plan in plans),
        domain_xml=tuple(xml for plan in plans for xml in plan.domain_xml),
        resources=tuple(dict.fromkeys(r for plan in plans for r in plan.resources)),
        spec={
            "schema": 1,
            "target": target,
            "keep_going": keep_going,
            "at_once": at_once,
            "left": [each.as_dict() for each in left],
            "moves": [
                {
                    "title": plan.title,
                    "spec": {**plan.spec, "memory_expected": load.memory_bytes},
                    "load": {**asdict(load), "slots": list(load.slots)},
                }
                for plan, (_, load) in zip(plans, first, strict=True)
            ],
        },
        binding={name: said for plan in plans for name, said in plan.binding.items()},
    )


def load_of(move: Mapping[str, Any]) -> Load:
    """What a move of a spec brings."""
    said = dict(move["load"])
    return Load(**(said | {"slots": tuple(said["slots"])}))


def _at_once(count: int, limits: Mapping[str, int], rate: int) -> int:
    """How many at the most: with a rate to share, no more than get 1 MiB/s of it each."""
    if not rate:
        return max(1, min(count, limits.get("total", count)))
    widest = min(limits.get("in", count), limits.get("out", count), rate // MIB)
    return max(1, min(count, widest))


def _planned(each: Moving, rate: int) -> tuple[Plan, Load]:
    plan = plan_migrate(each.facts, each.request, each.ids)
    spec = plan.spec
    memory = 0
    if spec["mode"] != "offline":
        memory = min(each.resident_bytes or spec["memory_bytes"], spec["memory_bytes"])
    load = Load(
        source=spec["source"],
        target=spec["target"],
        memory_bytes=memory,
        disk_bytes=sum(disk["bytes"] for disk in spec["disks"]),
        slots=plan.slots,
    )
    copies = any(disk["way"] == "copy" for disk in spec["disks"])
    if load.small and not copies and not rate:  # with a rate, each has its share of the link
        load = replace(load, slots=small_move_slots(load.source, load.target))
    return plan, load


class _Taken:
    """What those planned so far take of the target."""

    def __init__(self) -> None:
        self._memory = 0
        self._pools: dict[str, int] = {}

    def add(self, plan: Plan) -> None:
        """Counts one more."""
        spec = plan.spec
        live = spec["mode"] != "offline"
        if live:
            self._memory += spec["memory_bytes"]
        for disk in spec["disks"]:
            for layer in disk["layers"]:
                size = disk["bytes"] if live else layer["bytes"]
                self._pools[layer["pool"]] = self._pools.get(layer["pool"], 0) + size

    def seen_by(self, facts: MigrateFacts) -> MigrateFacts:
        """The facts of the next one."""
        target = facts.target
        pools = tuple(
            replace(
                pool, available_bytes=max(0, pool.available_bytes - self._pools.get(pool.name, 0))
            )
            for pool in target.pools
        )
        free = max(0, target.memory_free_bytes - self._memory)
        return replace(facts, target=replace(target, pools=pools, memory_free_bytes=free))


def _joined(plans: Sequence[Plan], left: Sequence[Left]) -> tuple[Finding, ...]:
    """All findings, equal ones once, each with its VM; one that holds for every VM as it is."""
    shared = set(plans[0].checks) if plans else set()
    for plan in plans[1:]:
        shared &= set(plan.checks)
    found = [
        finding if finding in shared else _of(plan.spec["vm"]["name"], finding)
        for plan in plans
        for finding in plan.checks
    ]
    found += TOGETHER.run(Together(plans=tuple(plans), left=tuple(left)))
    order = list(Severity)
    return tuple(sorted(dict.fromkeys(found), key=lambda each: order.index(each.severity)))


def _of(name: str, finding: Finding) -> Finding:
    about = f"vm/{name}"
    if finding.object == about or finding.object.startswith(f"{about}/"):
        return finding
    return replace(finding, object=f"{about}/{finding.object}" if finding.object else about)
