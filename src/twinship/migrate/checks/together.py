"""Can these VMs move together, and who stays?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from twinship.model.plan import Plan, Severity
from twinship.planning.checks import CheckTable, Problem

TOGETHER: CheckTable[Together] = CheckTable()


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A VM that stays where it is, and why."""

    vm: str
    host: str
    reason: str
    hint: str = ""

    def as_dict(self) -> dict[str, str]:
        """For a spec and a result."""
        return {"vm": self.vm, "host": self.host, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """The plans of all that move to one host, and who stays."""

    plans: tuple[Plan, ...]
    left: tuple[Left, ...]


@TOGETHER.row("MOVES_CLASH")
def nothing_twice(case: Together) -> Iterator[Problem]:
    """Two VMs that move to one host must not bring the same name, nor a file at the same path.

    Two linked clones bring the base they share: one goes first, and the others then land on it.
    """
    brought: dict[str, str] = {}
    for plan in case.plans:
        label = f"{plan.spec['source']}/{plan.spec['vm']['name']}"
        for resource in dict.fromkeys(plan.resources):
            kind, _, rest = resource.partition("/")
            if kind not in ("name", "file"):
                continue
            first = brought.setdefault(resource, label)
            if first == label:
                continue
            thing = f"the name {rest.partition('/')[2]}" if kind == "name" else _path(resource)
            yield Problem(
                f"{first} and {label} both bring {thing} to {plan.spec['target']}",
                hint="rename one of them: virsh domrename"
                if kind == "name"
                else f"if it is a base they share: move {first} first, the others then land on it; "
                f"or twinship vm flatten {label}; else move them to different hosts",
                object=f"vm/{plan.spec['vm']['name']}",
            )


@TOGETHER.row("LEFT_BEHIND", Severity.WARN)
def who_stays(case: Together) -> Iterator[Problem]:
    """With ``--all``, templates and bases of linked clones stay: others read their disks there.

    Named explicitly, a base is refused (``BASE_HAS_CHILDREN``); a template without clones moves.
    """
    for left in case.left:
        yield Problem(
            f"{left.vm} stays on {left.host}: {left.reason}",
            hint=left.hint,
            object=f"vm/{left.vm}",
        )


def _path(resource: str) -> str:
    return "/" + resource.split("/", 2)[2].lstrip("/")
