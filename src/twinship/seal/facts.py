"""What the plan of a seal is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from twinship.model.host import HostFacts
from twinship.model.vm import Disk, VmFacts
from twinship.seal.look import Look
from twinship.seal.shown import Chain


@dataclass(frozen=True, slots=True, kw_only=True)
class SealFacts:
    """A VM to be sealed in place.

    ``children`` stand on its disks. ``files``: the names there are, by pool. ``look`` is empty
    where something speaks against looking.
    """

    vm: VmFacts
    host: HostFacts
    children: tuple[str, ...] = ()
    files: Mapping[str, frozenset[str]] = field(default_factory=dict)
    look: Look = field(default_factory=Look)


def sound(disk: Disk) -> bool:
    """Whether every file of a disk can be seen as what it is said to be."""
    return bool(disk.chain) and all(
        layer.header is not None and not layer.problem for layer in disk.chain
    )


def chain_of(disk: Disk) -> Chain:
    """The files of a sound disk."""
    return Chain(
        files=tuple((layer.path, layer.header.format) for layer in disk.chain if layer.header)
    )
