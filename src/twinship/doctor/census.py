"""Everything that all hosts show, at about one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twinship.doctor.journal import Journal
from twinship.domxml import read as domread
from twinship.domxml.guard import unguarded
from twinship.domxml.lineage import lineage_of
from twinship.domxml.resources import Held, resources
from twinship.domxml.rewrite import mark_of
from twinship.hypervisor import vms, volumes
from twinship.hypervisor.connection import Connection
from twinship.inventory.inventory import Inventory
from twinship.migrate.observe import side_of
from twinship.migrate.reconcile import Side
from twinship.model.errors import TwinshipError

CARRIER = "twinship-carrier-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One VM on one host. ``away`` is the host it was moved to, by our mark."""

    host: str
    uuid: str
    name: str
    side: Side
    has_job: bool
    persistent: bool
    away: str = ""
    paths: frozenset[str] = frozenset()
    holds: frozenset[Held] = frozenset()

    @property
    def carrier(self) -> bool:
        """Whether it is a carrier of ours: named so, transient, and by its own UUID."""
        return not self.persistent and self.name == f"{CARRIER}{self.uuid[:8]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """All hosts; ``unseen`` says why one shows nothing. ``files``: the journal's, if there."""

    vms: tuple[Seen, ...]
    unseen: Mapping[str, str]
    hosts: tuple[str, ...]
    files: frozenset[tuple[str, str]]
    journal: Journal


def take(inventory: Inventory, journal: Journal) -> Census:
    """Looks at all hosts in parallel. Never raises for one that does not answer."""
    wanted: dict[str, list[str]] = {}
    for made in journal.made:
        wanted.setdefault(made.host, []).append(made.path)

    def look(connection: Connection) -> tuple[list[Seen], set[tuple[str, str]]]:
        paths = wanted.get(connection.name, [])
        there = {path for path in paths if volumes.find(connection, path) is not None}
        return look_at(connection), {(connection.name, path) for path in there}

    found: list[Seen] = []
    files: set[tuple[str, str]] = set()
    unseen: dict[str, str] = {}
    answers = inventory.ask(look)
    for host, answer in answers.items():
        if isinstance(answer, TwinshipError):
            unseen[host] = answer.cause or answer.message
        else:
            found += answer[0]
            files |= answer[1]
    return Census(
        vms=tuple(found),
        unseen=unseen,
        hosts=tuple(answers),
        files=frozenset(files),
        journal=journal,
    )


def look_at(connection: Connection) -> list[Seen]:
    """Every VM of one host."""
    found = []
    for name, uuid, text in vms.definitions(connection):
        state = vms.state(connection, uuid)
        if state is None:
            continue  # it went since it was listed
        lineage = lineage_of(text)
        found.append(
            Seen(
                host=connection.name,
                uuid=uuid,
                name=name,
                side=side_of(state, was_paused=False),
                has_job=state[0].active and bool(vms.job(connection, uuid)),
                persistent=state[2],
                away=(mark_of(text, "away") or {}).get("host", ""),
                paths=frozenset(
                    [disk.path for disk in domread.disks(text) if disk.path]
                    + [base.path for base in (lineage.bases if lineage else ())]
                ),
                holds=resources(unguarded(text)),
            )
        )
    return found
