"""The plan of a template: that of a clone, with the seal and the mark; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from twinship.clone.plan import plan_clone
from twinship.domxml.template import old_name
from twinship.model.plan import Plan, Severity, Step
from twinship.model.request import CloneMode, NewIds, SealChoice, StateWay, TemplateRequest
from twinship.seal.choice import choice_document, choice_from
from twinship.seal.plan import manifest_of, sealing_title
from twinship.template.checks import TABLE, TemplateCase
from twinship.template.facts import TemplateFacts
from twinship.template.gather import clone_request


def plan_template(facts: TemplateFacts, request: TemplateRequest, ids: NewIds) -> Plan:
    """What making a template of ``request.vm`` would do."""
    plan = plan_clone(facts.clone, clone_request(request), ids)
    own = TABLE.run(TemplateCase(facts=facts, request=request))
    order = list(Severity)
    checks = dict.fromkeys((*own, *facts.look.findings, *plan.checks))
    host, newest = facts.clone.host.name, facts.newest
    replaced = None
    if newest is not None and newest.vm_name == request.name:
        replaced = {"uuid": newest.uuid, "name": old_name(newest.template)}
    version = newest.template.version + 1 if newest is not None else 1
    names = (f"name/{host}/{replaced['name']}", f"vm/{replaced['uuid']}") if replaced else ()
    binding = {**plan.binding, f"the newest version of {request.name}": str(version - 1)}
    return replace(
        plan,
        kind="template",
        title=f"make template {request.name} of {facts.clone.source.vm.label}, version {version}",
        checks=tuple(sorted(checks, key=lambda finding: order.index(finding.severity))),
        steps=tuple(_steps(plan, facts, request, replaced)),
        manifest=manifest_of([(facts.clone.source.vm.label, facts.look)]),
        resources=(*plan.resources, *names),
        spec={
            **plan.spec,
            "seal": choice_document(request.choice) if request.seal else None,
            "template": {"name": request.name, "version": version, "replaces": replaced},
            "asked": {"new_version": request.new_version, "vm": plan.spec["request"]["vm"]},
            "binding": binding,
        },
        binding=binding,
    )


def asked_for(spec: Mapping[str, Any]) -> TemplateRequest:
    """The request a spec was made of."""
    asked = spec["request"]
    return TemplateRequest(
        name=spec["template"]["name"],
        vm=spec["asked"]["vm"],
        new_version=spec["asked"]["new_version"],
        seal=spec["seal"] is not None,
        choice=choice_from(spec["seal"]) if spec["seal"] else SealChoice(),
        mode=CloneMode(asked["mode"]),
        pool=asked["pool"],
        nvram_way=StateWay(asked["nvram_way"]),
        tpm_way=StateWay(asked["tpm_way"]),
        rate=asked["rate"],
    )


def _steps(
    plan: Plan,
    facts: TemplateFacts,
    request: TemplateRequest,
    replaced: Mapping[str, str] | None,
) -> list[Step]:
    """The clone's steps; before its definition what makes it a template."""
    host = facts.clone.host.name
    added = []
    if request.seal:
        title = sealing_title(facts.look.guest, facts.look.manifest)
        added.append(Step(id="seal", title=title, host=host))
    added.append(Step(id="digest", title="take the digests of its disks", host=host))
    if replaced:
        title = f"rename {request.name} to {replaced['name']}"
        added.append(Step(id="rename", title=title, host=host))
    title = f"define template {request.name}, its disks read-only"
    define = Step(id="define", title=title, host=host)
    return [*(step for step in plan.steps if step.id != "define"), *added, define]
