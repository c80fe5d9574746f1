"""That a VM is a template: its name and version, where it comes from, its disks' digests.

::

    <twinship:template name="debian12" version="2" of="UUID" source="web" created="…">
      <twinship:disk path="/…/debian12.qcow2" length="…" changed="…" header="…" digest="…"/>
    </twinship:template>

A template is shut off, its disks are read-only (the mark ``guard``), and we do not start it. A new
version takes the name; the one before is called ``NAME-v1`` from then on.
"""

from __future__ import annotations

from dataclasses import dataclass

from twinship.domxml.document import parse
from twinship.domxml.lineage import Base, base_attributes, base_of
from twinship.domxml.rewrite import NAMESPACE, mark_path, new_mark, with_mark_element, without_mark

KIND = "template"


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """What a template's definition says of it. ``of`` is its source's UUID, ``source`` its name."""

    name: str
    version: int
    of: str
    source: str
    created: str
    disks: tuple[Base, ...] = ()


def template_of(text: str) -> Template | None:
    """The template a definition is of; None for any other VM."""
    if NAMESPACE not in text:
        return None
    mark = parse(text).find(mark_path(KIND))
    if mark is None:
        return None
    version = mark.get("version", "")
    return Template(
        name=mark.get("name", ""),
        version=int(version) if version.isdecimal() else 0,
        of=mark.get("of", ""),
        source=mark.get("source", ""),
        created=mark.get("created", ""),
        disks=tuple(base_of(element) for element in mark.findall(f"{{{NAMESPACE}}}disk")),
    )


def with_template(text: str, template: Template) -> str:
    """The definition of a template."""
    mark = new_mark(
        KIND,
        {
            "name": template.name,
            "version": str(template.version),
            "of": template.of,
            "source": template.source,
            "created": template.created,
        },
    )
    for disk in template.disks:
        mark.append(new_mark("disk", base_attributes(disk)))
    return with_mark_element(text, mark)


def without_template(text: str) -> str:
    """The definition of the same VM as no template."""
    return without_mark(text, KIND)


def old_name(template: Template) -> str:
    """What a version is called once a newer one has its name."""
    return f"{template.name}-v{template.version}"
