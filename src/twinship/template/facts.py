"""What the plan of a template is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from twinship.clone.facts import CloneFacts
from twinship.domxml.template import Template
from twinship.seal.look import Look


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of a template that is there."""

    uuid: str
    vm_name: str
    template: Template


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateFacts:
    """A VM to make a template of. ``versions``: those of the template that has the name already."""

    clone: CloneFacts
    versions: tuple[Version, ...] = ()
    look: Look = field(default_factory=Look)

    @property
    def newest(self) -> Version | None:
        """The newest of the versions."""
        return max(self.versions, key=lambda found: found.template.version, default=None)
