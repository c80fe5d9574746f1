"""The clone's definition as ``--print-xml`` shows it; pure.

It is the one that a clone is defined with, without Twinship's mark of where it comes from. Unlike
a plan's it holds passwords, as virt-clone's does: it is there to be defined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lxml import etree

from twinship.domxml.document import parse, serialize
from twinship.domxml.identity import NewIdentity, renew
from twinship.domxml.rewrite import NAMESPACE, with_disks
from twinship.domxml.told import without_told


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """What is new in a clone. ``files``: target to path, of the disks that change theirs."""

    identity: NewIdentity
    files: Mapping[str, str] = field(default_factory=dict)


def new_definition(source_xml: str, decisions: Decisions) -> str:
    """The definition of the clone of ``source_xml``. Raises :class:`UsageError` for bad XML."""
    root = parse(without_told(source_xml))
    renew(root, decisions.identity)
    _drop_marks(root)
    return with_disks(
        serialize(root), {target: (path, "") for target, path in decisions.files.items()}
    )


def _drop_marks(root: etree._Element) -> None:
    metadata = root.find("metadata")
    if metadata is None:
        return
    marks = metadata.findall(f"{{{NAMESPACE}}}*")
    for mark in marks:
        metadata.remove(mark)
    if marks and len(metadata) == 0:
        root.remove(metadata)
