"""The checks of a template, beside those of the clone it begins with."""

from __future__ import annotations

from dataclasses import dataclass

from twinship.domxml.template import old_name, template_of
from twinship.model.plan import Severity
from twinship.model.request import TemplateRequest
from twinship.planning.checks import CheckTable, Problem
from twinship.template.facts import TemplateFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateCase:
    """What the rows look at."""

    facts: TemplateFacts
    request: TemplateRequest


TABLE: CheckTable[TemplateCase] = CheckTable()


@TABLE.row("TEMPLATE_EXISTS")
def the_name_is_new(case: TemplateCase) -> Problem | None:
    """A template that is there is replaced by nothing; it gets a new version when asked."""
    newest = case.facts.newest
    if newest is None or case.request.new_version:
        return None
    return Problem(
        f"template {case.request.name} is there, in version {newest.template.version}",
        hint="make the next version of it (--new-version), or choose another name",
        object=f"template/{case.request.name}",
    )


@TABLE.row("TEMPLATE_NONE")
def there_is_one_to_renew(case: TemplateCase) -> Problem | None:
    """A new version is of something."""
    if case.facts.newest is not None or not case.request.new_version:
        return None
    return Problem(
        f"there is no template {case.request.name} on {case.facts.clone.host.name}",
        hint="leave --new-version out, or see twinship template list",
        object=f"template/{case.request.name}",
    )


@TABLE.row("TEMPLATE_NAME")
def the_old_version_finds_a_name(case: TemplateCase) -> Problem | None:
    """The version before is called ``NAME-vN`` from then on."""
    newest = case.facts.newest
    if newest is None or not case.request.new_version or newest.vm_name != case.request.name:
        return None
    wanted = old_name(newest.template)
    if wanted not in case.facts.clone.names:
        return None
    return Problem(
        f"version {newest.template.version} would be called {wanted}, as another VM is",
        hint=f"rename that one: virsh domrename {wanted} NEW",
        object=f"vm/{wanted}",
    )


@TABLE.row("IS_TEMPLATE")
def the_source_is_no_template(case: TemplateCase) -> Problem | None:
    """A template of a template is a clone of it that was changed and sealed again."""
    found = template_of(case.facts.clone.source.xml)
    if found is None:
        return None
    label = case.facts.clone.source.vm.label
    return Problem(
        f"{label} is itself version {found.version} of template {found.name}",
        hint=f"clone it, change the clone, and make a template of that: twinship clone {label} NEW",
        object=f"vm/{case.facts.clone.source.vm.name}",
    )


@TABLE.row("NO_DISK")
def there_is_a_disk(case: TemplateCase) -> Problem | None:
    """There must be something to seal."""
    if case.facts.clone.source.file_disks or not case.request.seal:
        return None
    vm = case.facts.clone.source.vm
    return Problem("the VM has no disk of its own to seal", object=f"vm/{vm.name}")


@TABLE.row("GUEST_LATER", Severity.INFO)
def the_guest_is_seen_later(case: TemplateCase) -> Problem | None:
    """A running guest's files are looked at in the copy, whose journal is written back first."""
    if not case.facts.clone.in_use or not case.request.seal:
        return None
    return Problem(
        "the VM runs: what would go is known once its disks are copied",
        object=f"vm/{case.facts.clone.source.vm.name}",
    )


@TABLE.row("SEAL_ENGINE", Severity.INFO)
def the_slow_way_is_said(case: TemplateCase) -> Problem | None:
    """Most guests are reached in user space, in under a second; others need an appliance."""
    look = case.facts.look
    if look.why == "" or any(finding.severity is Severity.BLOCK for finding in look.findings):
        return None
    text = f"libguestfs is used: {look.why}"
    if look.manifest is None:
        text += " (what goes is known once its appliance has started; --dry-run shows it)"
    return Problem(text, object=f"vm/{case.facts.clone.source.vm.name}")
