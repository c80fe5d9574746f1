"""The effects of making a template: a clone's, the seal, digests, and a locked definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from twinship.clone.finishing import Define
from twinship.clone.run import CloneVerb
from twinship.config import LINK_WAITS_S
from twinship.domxml.guard import guarded
from twinship.domxml.lineage import Base, base_attributes
from twinship.domxml.sealed import with_sealed
from twinship.domxml.template import Template, with_template
from twinship.hypervisor import vms
from twinship.inventory.lineage import fingerprint
from twinship.model.documents import stamp
from twinship.model.errors import Gone
from twinship.operations.job import Job
from twinship.operations.verb import Phase, Verdict
from twinship.seal.choice import choice_from
from twinship.seal.outcome import document, mark
from twinship.seal.work import Hooks, SealDisk, SealGuest, seal_guests
from twinship.transfer.steps import Hosts, Replan


def copied_disk(disk: Mapping[str, Any]) -> SealDisk:
    """A disk of the copy, with what it stands on; nothing is kept to undo its seal with."""
    below = [(path, kind) for path, kind in disk["backing"]]
    if disk["method"] == "overlay":
        below = [(disk["source"], disk["source_format"]), *below]
    elif disk["method"] == "flatten":
        below = []
    return SealDisk(files=((disk["path"], disk["format"]), *below), length_bytes=disk["virtual"])


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateVerb:
    """Makes a template of a VM, whose own disks are only read."""

    hosts: Hosts
    replan: Replan
    stall_s: float
    waits_s: Sequence[float] = LINK_WAITS_S
    kind: str = "template"
    schema: int = 1

    def upgraded(self, spec: dict[str, Any]) -> dict[str, Any]:
        """There is no older version."""
        return spec

    def phases(self, spec: dict[str, Any]) -> Sequence[Phase]:
        """A clone's, but that its definition comes after the seal, and is a template's."""
        *copying, define = self._clone.phases(spec)
        assert isinstance(define, Define)
        added: list[Phase] = [_Seal(hosts=self.hosts, spec=spec)] if spec["seal"] else []
        added.append(_Digest(hosts=self.hosts, spec=spec))
        if spec["template"]["replaces"]:
            added.append(_Rename(hosts=self.hosts, spec=spec))
        return (*copying, *added, _DefineTemplate(hosts=self.hosts, spec=spec))

    def reconcile(self, job: Job) -> Verdict:
        """As for a clone: forward once it is defined."""
        return self._clone.reconcile(job)

    def result(self, job: Job) -> dict[str, Any]:
        """The template, its disks as a clone's result has them, and what the seal did."""
        done = self._clone.result(job)
        spec, outcomes = job.spec, job.outcomes()
        made = done["clones"][0]
        return {
            "template": {
                "name": spec["template"]["name"],
                "version": spec["template"]["version"],
                "uuid": spec["uuid"],
                "host": spec["host"],
                "disks": made["disks"],
            },
            "source": done["source"],
            "seal": outcomes.get("seal"),
        }

    @property
    def _clone(self) -> CloneVerb:
        return CloneVerb(
            hosts=self.hosts, replan=self.replan, stall_s=self.stall_s, waits_s=self.waits_s
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seal:
    hosts: Hosts
    spec: dict[str, Any]
    name: str = "seal"
    title: str = "seal the guest"

    def do(self, job: Job) -> dict[str, Any]:
        hooks = Hooks(
            say=lambda why: job.progress.phase(f"seal the guest by libguestfs: {why}"),
            stop=job.raise_if_cancelled,
            change=job.raise_if_cancelled,  # the disks are this operation's own
        )
        choice = choice_from(self.spec["seal"])
        if self.spec["source"]["active"]:
            choice = replace(choice, recover=True)  # it is as after a power cut, unless frozen
        disks = tuple(copied_disk(disk) for disk in self.spec["disks"])
        copy = SealGuest(host=self.spec["host"], disks=disks)
        (done,) = seal_guests(self.hosts, [copy], choice, hooks)
        return document(done) | {"at": stamp(job.clock.now())}

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # an operation cut off here is undone

    def undo(self, job: Job) -> None:
        """It goes with the disks."""

    def leftover(self) -> str:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Digest:
    hosts: Hosts
    spec: dict[str, Any]
    name: str = "digest"
    title: str = "take the digests of the disks"

    def do(self, job: Job) -> dict[str, Any]:
        connection = self.hosts.connection(self.spec["host"])
        found = {}
        for disk in self.spec["disks"]:
            job.raise_if_cancelled()
            base = fingerprint(connection, disk["path"], whole=True)
            if base is None:
                raise Gone(f"{disk['path']} is gone", code="VOLUME_NOT_FOUND")
            found[disk["path"]] = base_attributes(base)
        return {"disks": found}

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # taken anew

    def undo(self, job: Job) -> None:
        """Nothing was changed."""

    def leftover(self) -> str:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rename:
    hosts: Hosts
    spec: dict[str, Any]
    name: str = "rename"
    title: str = "rename the version before"

    def do(self, job: Job) -> dict[str, Any]:
        self._rename(self._replaced["name"])
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # renamed twice is harmless

    def undo(self, job: Job) -> None:
        self._rename(self.spec["name"])

    def leftover(self) -> str:
        return f"{self._replaced['name']}, which was {self.spec['name']}"

    @property
    def _replaced(self) -> dict[str, str]:
        found: dict[str, str] = self.spec["template"]["replaces"]
        return found

    def _rename(self, name: str) -> None:
        vms.rename(self.hosts.connection(self.spec["host"]), self._replaced["uuid"], name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _DefineTemplate(Define):
    title: str = "define the template"

    def definition(self, job: Job) -> str:
        """The clone's, marked, and with disks that nobody writes."""
        spec, outcomes = self.spec, job.outcomes()
        at = stamp(job.clock.now()) or ""
        disks = [_base(told) for told in outcomes["digest"]["disks"].values()]
        text = with_template(
            Define.definition(self, job),
            Template(
                name=spec["template"]["name"],
                version=spec["template"]["version"],
                of=spec["source"]["uuid"],
                source=spec["source"]["name"],
                created=at,
                disks=tuple(disks),
            ),
        )
        if sealed := outcomes.get("seal"):
            text = with_sealed(text, mark(sealed, sealed["at"], {}, []))
        return guarded(text, [disk["target"] for disk in spec["disks"]])


def _base(told: Mapping[str, str]) -> Base:
    return Base(
        path=told["path"],
        length_bytes=int(told["length"]),
        changed=told["changed"],
        header=told["header"],
        digest=told.get("digest", ""),
    )
