"""What the rows look at."""

from __future__ import annotations

from dataclasses import dataclass

from twinship.domxml.read import Nic
from twinship.domxml.refit import Refit
from twinship.migrate.belongings import Belongings
from twinship.migrate.disks import Route, Way
from twinship.migrate.facts import MigrateFacts
from twinship.model.plan import Cure
from twinship.model.request import MigrateMode, MigrateRequest, PostCopyWay
from twinship.model.vm import Disk

__all__ = ["MigrateCase", "Way"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateCase:
    """Facts, request, and what the plan has chosen: mode, routes of the disks, what else goes."""

    facts: MigrateFacts
    request: MigrateRequest
    mode: MigrateMode
    routes: tuple[Route, ...]
    along: Belongings

    @property
    def live(self) -> bool:
        """Whether memory moves (live or non-live)."""
        return self.mode is not MigrateMode.OFFLINE

    @property
    def may_post_copy(self) -> bool:
        """Whether the move may go over to post-copy: it was allowed, and the VM runs meanwhile."""
        asked = self.request.post_copy is not PostCopyWay.NEVER
        return asked and self.mode is MigrateMode.LIVE

    @property
    def ways(self) -> tuple[tuple[Disk, Way], ...]:
        """Each disk and what happens to it."""
        return tuple((route.disk, route.way) for route in self.routes)

    @property
    def moving(self) -> tuple[Route, ...]:
        """The routes of the disks whose bytes move."""
        return tuple(route for route in self.routes if route.moves)

    @property
    def copied(self) -> tuple[Disk, ...]:
        """The disks whose bytes move."""
        return tuple(route.disk for route in self.moving)

    @property
    def vm_object(self) -> str:
        """How findings name the VM."""
        return f"vm/{self.facts.vm.vm.name}"

    def joined(self, nic: Nic) -> str:
        """What an interface is joined to on the target: its own name, or the one ``--map`` says."""
        return dict(self.request.maps).get(nic.source, nic.source)

    def maps(self) -> tuple[Cure, ...]:
        """``--map`` of networks, bridges and directories, as rewrites."""
        cures = [
            Cure(f"what is in {old} lies in {new} there", Refit.DIRECTORY.value, old, new)
            for old, new in self.facts.places.moved
        ]
        for old, new in self.request.maps:
            network = self.facts.target.network(new) is not None
            kind = Refit.NETWORK if network else Refit.BRIDGE
            if any(nic.source == old for nic in self.facts.summary.nics):
                cures.append(Cure(f"{old} is {new} there", kind.value, old, new))
        return tuple(cures)
