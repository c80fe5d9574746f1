"""Who stands on a VM's disks from another host: through storage that both of them see."""

from __future__ import annotations

from dataclasses import dataclass

from twinship.domxml.lineage import lineage_of
from twinship.hypervisor import vms, volumes
from twinship.hypervisor.connection import Connection
from twinship.inventory.inventory import Inventory
from twinship.inventory.lineage import children
from twinship.model.errors import TwinshipError
from twinship.model.vm import VmFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """``names`` of VMs, those of other hosts with their host's; ``unseen`` hosts did not answer."""

    names: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


def standing(inventory: Inventory, base: VmFacts) -> Standing:
    """All VMs whose disks are based on a disk of ``base``, on its host and on every other."""
    here = inventory.connection(base.vm.host)
    own = tuple(child.name for child in children(here, base))
    paths = {disk.path for disk in base.disks if disk.source_type == "file" and disk.path}
    away: list[str] = []
    unseen: list[str] = []
    for host, answer in sorted(inventory.ask(lambda other: _claims(other, base, paths)).items()):
        if host == base.vm.host:
            continue
        if isinstance(answer, TwinshipError):
            unseen.append(host)
            continue
        there = inventory.connection(host) if answer else here
        away += [f"{host}/{name}" for name, path in answer if _is_one(here, there, path)]
    return Standing(names=(*own, *dict.fromkeys(away)), unseen=tuple(unseen))


def _claims(other: Connection, base: VmFacts, paths: set[str]) -> list[tuple[str, str]]:
    """The host's VMs that are based on a file of such a name, and the name."""
    if not paths or other.name == base.vm.host:
        return []
    found = []
    for name, uuid, text in vms.definitions(other):
        lineage = lineage_of(text) if "linked" in text and uuid != base.vm.uuid else None
        bases = lineage.bases if lineage is not None else ()
        found += [(name, part.path) for part in bases if part.path in paths]
    return sorted(found)


def _is_one(here: Connection, there: Connection, path: str) -> bool:
    """Whether both hosts mean one file by a path: a copy has another change time."""
    return volumes.are_one(here, path, there, path)
