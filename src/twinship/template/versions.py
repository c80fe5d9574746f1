"""The templates there are, version by version, and what stands on each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from twinship.domxml.lineage import Base, lineage_of
from twinship.domxml.sealed import Sealed, sealed_of
from twinship.domxml.template import Template, template_of
from twinship.hypervisor.vms import Definitions
from twinship.model.documents import Document, listing
from twinship.model.errors import TwinshipError


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateVersion:
    """A version of a template, with the VMs that stand on it. ``vm_name`` is the VM's own name."""

    host: str
    uuid: str
    vm_name: str
    template: Template
    sealed: Sealed | None
    children: tuple[str, ...] = ()


def versions_on(hosts: Mapping[str, Definitions]) -> list[TemplateVersion]:
    """The templates among the definitions of these hosts, with what stands on each. Pure.

    A VM of another host stands on one if it was made of a file that is the template's still: a
    copy that was carried there has another modification time.
    """
    standing: dict[str, list[tuple[str, str, Base]]] = {}
    for host, definitions in hosts.items():
        for name, _, text in definitions:
            lineage = lineage_of(text) if "linked" in text else None
            for base in lineage.bases if lineage is not None else ():
                standing.setdefault(base.path, []).append((host, name, base))
    found = []
    for host, definitions in hosts.items():
        for name, uuid, text in definitions:
            template = template_of(text)
            if template is None:
                continue
            children = {
                child if away == host else f"{away}/{child}"
                for disk in template.disks
                for away, child, base in standing.get(disk.path, ())
                if away == host or _same(base, disk)
            }
            found.append(
                TemplateVersion(
                    host=host,
                    uuid=uuid,
                    vm_name=name,
                    template=template,
                    sealed=sealed_of(text),
                    children=tuple(sorted(children - {name})),
                )
            )
    return found


def _same(base: Base, disk: Base) -> bool:
    return (base.length_bytes, base.changed) == (disk.length_bytes, disk.changed)


def template_document(one: TemplateVersion) -> Document:
    """A version of a template."""
    return {
        "name": one.template.name,
        "version": one.template.version,
        "host": one.host,
        "vm": one.vm_name,
        "uuid": one.uuid,
        "source": {"name": one.template.source, "uuid": one.template.of},
        "created": one.template.created,
        "disks": [
            {"path": disk.path, "length_bytes": disk.length_bytes, "sha256": disk.digest or None}
            for disk in one.template.disks
        ],
        "children": list(one.children),
        "seal": _seal_document(one.sealed) if one.sealed is not None else None,
    }


def templates_document(
    versions: Iterable[TemplateVersion], unseen: Mapping[str, TwinshipError]
) -> Document:
    """``template list``: the versions, and beside them the hosts that could not be asked."""
    document = listing([template_document(one) for one in versions])
    document["unreachable"] = [
        {"host": host, "error": error.cause or error.message, "hint": error.hint or None}
        for host, error in unseen.items()
    ]
    return document


def _seal_document(sealed: Sealed) -> dict[str, Any]:
    return {
        "at": sealed.at,
        "guest": sealed.guest,
        "operations": [
            {
                "name": done.name,
                "paths": done.paths,
                "freed_bytes": done.bytes,
                "listed": list(done.listed),
            }
            for done in sealed.done
        ],
    }
