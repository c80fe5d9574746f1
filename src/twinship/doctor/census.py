"""Everything that all hosts show, at about one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from twinship.doctor import stores
from twinship.doctor.journal import Journal
from twinship.doctor.stores import Store, Twin
from twinship.domxml import read as domread
from twinship.domxml.guard import unguarded
from twinship.domxml.lineage import lineage_of
from twinship.domxml.resources import Held, resources, secrets_named
from twinship.domxml.rewrite import mark_of
from twinship.hypervisor import jobs, vms, volumes
from twinship.hypervisor.connection import Connection
from twinship.inventory.inventory import Inventory
from twinship.migrate.observe import side_of
from twinship.migrate.reconcile import Side
from twinship.model.errors import TwinshipError

CARRIER = "twinship-carrier-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One VM on one host. ``away`` is the host it was moved to, by our mark.

    ``reason`` is why it is paused, ``job`` what holds it. ``copying``: disks that a block job
    copies. ``secrets``: those its definition names, by UUID or by what they are for.
    """

    host: str
    uuid: str
    name: str
    side: Side
    has_job: bool
    persistent: bool
    away: str = ""
    reason: str = ""
    job: str = ""
    copying: tuple[str, ...] = ()
    secrets: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()
    holds: frozenset[Held] = frozenset()

    @property
    def carrier(self) -> bool:
        """Whether it is a carrier of ours: named so, transient, and by its own UUID."""
        return not self.persistent and self.name == f"{CARRIER}{self.uuid[:8]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """All hosts; ``unseen`` says why one shows nothing. ``files``: the journal's, if there.

    ``stores``: what each host's storage holds. ``twins``: files that look like a copy nobody has.
    """

    vms: tuple[Seen, ...]
    unseen: Mapping[str, str]
    hosts: tuple[str, ...]
    files: frozenset[tuple[str, str]]
    journal: Journal
    stores: Mapping[str, Store] = field(default_factory=dict)
    twins: tuple[Twin, ...] = ()


def take(inventory: Inventory, journal: Journal) -> Census:
    """Looks at all hosts in parallel. Never raises for one that does not answer."""
    wanted: dict[str, list[str]] = {}
    for made in journal.made:
        wanted.setdefault(made.host, []).append(made.path)

    def look(connection: Connection) -> tuple[list[Seen], set[tuple[str, str]], Store]:
        paths = wanted.get(connection.name, [])
        there = {path for path in paths if volumes.find(connection, path) is not None}
        store = stores.look(connection)
        return look_at(connection), {(connection.name, path) for path in there}, store

    found: list[Seen] = []
    files: set[tuple[str, str]] = set()
    held: dict[str, Store] = {}
    unseen: dict[str, str] = {}
    answers = inventory.ask(look)
    for host, answer in answers.items():
        if isinstance(answer, TwinshipError):
            unseen[host] = answer.cause or answer.message
        else:
            found += answer[0]
            files |= answer[1]
            held[host] = answer[2]
    return Census(
        vms=tuple(found),
        unseen=unseen,
        hosts=tuple(answers),
        files=frozenset(files),
        journal=journal,
        stores=held,
        twins=stores.twins(inventory, alike(found, held, journal)),
    )


def alike(
    vms_seen: Sequence[Seen], held: Mapping[str, Store], journal: Journal
) -> tuple[tuple[str, str, str], ...]:
    """(host, other host, path): a file that no VM of ``host`` has, and one of the other's does.

    Files of one's own journal that were left are another matter, and so is what an operation
    works on.
    """
    used = {(seen.host, path) for seen in vms_seen for path in seen.paths}
    made = {(made.host, made.path) for made in journal.made}
    found = {
        (host, seen.host, path)
        for seen in vms_seen
        if seen.uuid not in journal.held and not seen.carrier
        for path in seen.paths
        for host, store in held.items()
        if host != seen.host and path in store.files and path in held[seen.host].files
    }
    return tuple(sorted(row for row in found if (row[0], row[2]) not in used | made))


def look_at(connection: Connection) -> list[Seen]:
    """Every VM of one host."""
    found = []
    for name, uuid, text in vms.definitions(connection):
        state = vms.state(connection, uuid)
        if state is None:
            continue  # it went since it was listed
        lineage = lineage_of(text)
        job = vms.job(connection, uuid) if state[0].active else ""
        disks = domread.disks(text)
        found.append(
            Seen(
                host=connection.name,
                uuid=uuid,
                name=name,
                side=side_of(state, was_paused=False),
                has_job=bool(job),
                job=job,
                reason=state[1],
                copying=jobs.copied(connection, uuid, disks) if state[0].active else (),
                secrets=secrets_named(text),
                persistent=state[2],
                away=(mark_of(text, "away") or {}).get("host", ""),
                paths=frozenset(
                    [disk.path for disk in disks if disk.path]
                    + [base.path for base in (lineage.bases if lineage else ())]
                ),
                holds=resources(unguarded(text)),
            )
        )
    return found
