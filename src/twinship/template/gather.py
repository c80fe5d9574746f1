"""Reads what making a template depends on: all that a clone does, and what is in the guest."""

from __future__ import annotations

from dataclasses import replace

from twinship.clone.gather import gather as gather_clone
from twinship.domxml.template import template_of
from twinship.hypervisor import vms
from twinship.hypervisor.connection import Connection
from twinship.model.request import CloneRequest, TemplateRequest
from twinship.seal.facts import chain_of, sound
from twinship.seal.look import look
from twinship.template.facts import TemplateFacts, Version
from twinship.transfer.steps import Hosts


def clone_request(request: TemplateRequest) -> CloneRequest:
    """The clone that a template is to begin with."""
    return CloneRequest(
        vm=request.vm,
        name=request.name,
        mode=request.mode,
        pool=request.pool,
        nvram_way=request.nvram_way,
        tpm_way=request.tpm_way,
        rate=request.rate,
    )


def gather(
    hosts: Hosts, host: str, uuid: str, request: TemplateRequest, *, thorough: bool
) -> TemplateFacts:
    """All facts. ``thorough``: an appliance is started to look, too."""
    connection = hosts.connection(host)
    clone = gather_clone(connection, connection, uuid, clone_request(request))
    versions = versions_of(connection, request.name)
    if request.new_version and any(found.vm_name == request.name for found in versions):
        # It gives its name up.
        clone = replace(clone, names=clone.names - {request.name})
    facts = TemplateFacts(clone=clone, versions=versions)
    if not request.seal:
        return facts
    disks = clone.source.file_disks
    if clone.in_use or not disks or not all(sound(disk) for disk in disks):
        return facts
    chains = [chain_of(disk) for disk in disks]
    (seen,) = look(hosts, [(host, chains)], request.choice, thorough=thorough)
    return replace(facts, look=seen)


def versions_of(connection: Connection, name: str) -> tuple[Version, ...]:
    """All versions of a template on a host."""
    found = []
    for vm_name, uuid, text in vms.definitions(connection):
        template = template_of(text)
        if template is not None and template.name == name:
            found.append(Version(uuid=uuid, vm_name=vm_name, template=template))
    return tuple(sorted(found, key=lambda one: one.template.version))
