"""From options and a source to a request for the engine, or to a definition; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from twinship.clone.ids import new_ids
from twinship.domxml import read
from twinship.domxml.identity import NewIdentity
from twinship.domxml.read import DomainSummary
from twinship.model.errors import CheckBlocked
from twinship.model.plan import Plan
from twinship.model.request import CloneMode, CloneRequest, DiskChoice, DiskWay, NewIds, StateWay
from twinship.model.vm import Disk
from twinship.virtclone.disks import choices, shared_backing, unknown_targets
from twinship.virtclone.naming import nvram_path
from twinship.virtclone.options import Options
from twinship.virtclone.xml import Decisions, new_definition


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is cloned. ``paths``: target to where a disk's bytes are, as far as its host told.

    ``file`` is where its definition was read, if it is no VM.
    """

    name: str
    uuid: str
    xml: str
    file: str = ""
    paths: Mapping[str, str] = field(default_factory=dict)

    @property
    def disks(self) -> tuple[Disk, ...]:
        """The disks, each with its path: a volume by name has that of its file."""
        return tuple(
            replace(disk, path=self.paths.get(disk.target, disk.path))
            for disk in read.disks(self.xml)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """All that was said or found for one clone. ``unknown``: targets the source does not have."""

    source: Source
    options: Options
    name: str
    ids: NewIds
    disks: tuple[DiskChoice, ...]
    nvram: str
    unknown: tuple[str, ...]
    tpm: bool

    @property
    def kept(self) -> tuple[DiskChoice, ...]:
        """The disks that take a file as it is."""
        return tuple(choice for choice in self.disks if choice.way is DiskWay.KEEP)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that are made."""
        return tuple(choice.path for choice in self.disks if choice.way is DiskWay.COPY)

    @property
    def directories(self) -> tuple[str, ...]:
        """Where the files are read and written: libvirt needs a storage pool over each."""
        new = {choice.target: choice.path for choice in self.disks if choice.path}
        old = [disk.path for disk in self.source.disks if disk.target in new]
        paths = (*old, *new.values())
        files = [path for path in paths if path.startswith("/") and not path.startswith("/dev/")]
        return tuple(dict.fromkeys(path.rpartition("/")[0] for path in files))

    def request(self, uuid: str, host: str) -> CloneRequest:
        """What the engine is asked for; no ``uuid`` for a definition in a file."""
        return CloneRequest(
            vm=f"{host}/{uuid}",
            definition_file=self.source.file,
            name=self.name,
            mode=CloneMode.FULL,
            uuid=self.ids.uuid,
            macs=self.ids.macs,
            disks=self.disks,
            nvram=self.nvram,
            nvram_way=StateWay.FRESH if self.options.preserve_data else StateWay.COPY,
            tpm_way=StateWay.FRESH,  # virt-clone copies no state of it
            full_allocation=self.options.nonsparse,
        )

    def definition(self) -> str:
        """The clone's definition, without Twinship's own mark."""
        identity = NewIdentity(
            old_name=self.source.name,
            name=self.name,
            uuid=self.ids.uuid,
            genid=self.ids.genid,
            macs=self.ids.macs,
            nvram=self.nvram,
        )
        files = {choice.target: choice.path for choice in self.disks if choice.path}
        return new_definition(self.source.xml, Decisions(identity=identity, files=files))


def make(source: Source, options: Options, name: str, there: Callable[[str], bool]) -> Order:
    """What a clone of ``source`` under this name would be; ids are random where none was given."""
    disks, summary = source.disks, read.summary(source.xml)
    return Order(
        source=source,
        options=options,
        name=name,
        ids=_ids(options, len(summary.nics)),
        disks=choices(
            disks,
            options,
            (source.name, name),
            shared_backing=shared_backing(source.xml),
            there=there,
        ),
        nvram=_nvram(options, summary, name, there),
        unknown=unknown_targets(disks, options),
        tpm=bool(summary.tpm),
    )


def refuse_copies(plan: Plan) -> None:
    """Raises :class:`CheckBlocked` when a disk would have to be copied byte by byte."""
    for disk in plan.spec["disks"]:
        if disk["method"] != "reflink":
            reasons = [
                why["reason"] for why in disk["why_not_faster"] if why["method"] == "reflink"
            ]
            raise CheckBlocked(
                f"disk {disk['target']} cannot be reflinked",
                code="CLONE_REFLINK",
                cause="; ".join(reasons),
                hint="leave out --reflink: blocks are shared anyway wherever that is possible",
            )


def _ids(options: Options, nics: int) -> NewIds:
    fresh = new_ids(nics)
    given = options.macs[:nics] + ("",) * (nics - len(options.macs))
    return NewIds(
        uuid=options.uuid or fresh.uuid,
        genid=fresh.genid,
        macs=tuple(said or random for said, random in zip(given, fresh.macs, strict=True)),
        carrier=fresh.carrier,
    )


def _nvram(
    options: Options, summary: DomainSummary, name: str, there: Callable[[str], bool]
) -> str:
    if not summary.nvram:
        return ""
    return options.nvram or nvram_path(summary.nvram, name, there)
