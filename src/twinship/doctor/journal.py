"""What the database knows that hosts do not: who works on what, and what was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinship.model.operation import Operation, OperationState
from twinship.store.operations import OperationStore

_NOT_DONE = (OperationState.FAILED, OperationState.CANCELLED, OperationState.NEEDS_ATTENTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A volume that an operation made and, as far as its journal says, has not taken away."""

    operation: str
    title: str
    host: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """The last move of a VM that succeeded."""

    source: str
    target: str
    stay_defined: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """``held``: VMs an unfinished operation works on. ``carriers``: theirs, by UUID.

    ``unfinished``: their ids.
    """

    held: frozenset[str]
    carriers: frozenset[str]
    made: tuple[Made, ...]
    moves: Mapping[str, Move]
    unsettled: tuple[Operation, ...]
    stale_claims: tuple[tuple[str, str], ...]
    unfinished: frozenset[str] = frozenset()


def read(store: OperationStore) -> Journal:
    """Everything at once; changes nothing."""
    operations = store.all()
    unfinished = [op for op in operations if not op.state.ended]
    moves: dict[str, Move] = {}
    for op in reversed(operations):
        if op.kind == "migrate" and op.state is OperationState.SUCCEEDED:
            moves[op.spec["vm"]["uuid"]] = Move(
                source=op.spec["source"],
                target=op.spec["target"],
                stay_defined=bool(op.spec["stay_defined"] or op.spec["temporary"]),
            )
    claimed = (name.removeprefix("read:") for op in unfinished for name in op.resources)
    return Journal(
        held=frozenset(name.removeprefix("vm/") for name in claimed if name.startswith("vm/")),
        carriers=frozenset(op.spec["carrier"]["uuid"] for op in unfinished if "carrier" in op.spec),
        made=tuple(made for op in operations if op.state in _NOT_DONE for made in _made(store, op)),
        moves=moves,
        unsettled=tuple(op for op in operations if op.state is OperationState.NEEDS_ATTENTION),
        stale_claims=store.stale_claims(),
        unfinished=frozenset(op.id for op in unfinished),
    )


def _made(store: OperationStore, op: Operation) -> list[Made]:
    """The volumes whose making was begun, that were not there before, and are not undone."""
    begun: set[str] = set()
    for event in store.events(op.id):
        if event.kind == "note" and event.data.get("was_absent"):
            begun.add(event.phase)
        elif event.kind == "undone" or (event.kind == "note" and "was_absent" in event.data):
            begun.discard(event.phase)
    places = _places(op.kind, op.spec)
    return [
        Made(operation=op.id, title=op.title, host=host, path=path)
        for phase, (host, path) in places.items()
        if phase in begun
    ]


def _places(kind: str, spec: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Host and path of the volume that each phase makes."""
    match kind:
        case "clone":
            return {
                f"volume:{disk['target']}": (spec["host"], disk["path"]) for disk in spec["disks"]
            }
        case "migrate":
            return {
                f"volume:{there}": (spec["target"], there)
                for files in (*(disk["layers"] for disk in spec["disks"]), spec.get("along", ()))
                for there in (file.get("there", file["path"]) for file in files)
            }
        case _:
            return {}
