"""A clone's request: what goes without saying, and how a spec keeps it; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from twinship.clone.facts import CloneFacts
from twinship.clone.settings import AUTO
from twinship.domxml.sealed import sealed_of
from twinship.domxml.template import template_of
from twinship.model.request import (
    CloneMode,
    CloneRequest,
    DiskChoice,
    DiskWay,
    FirstBootWay,
    StateWay,
)


def of_template(facts: CloneFacts, request: CloneRequest) -> CloneRequest:
    """The request with what goes without saying for a clone of a template.

    It is linked where that can be, and its guest is told the VM's name, by the way it understands.
    """
    if template_of(facts.source.xml) is None:
        return request
    if request.mode is CloneMode.AUTO and not facts.across and not request.full_allocation:
        request = replace(request, mode=CloneMode.LINKED)
    sealed = sealed_of(facts.source.xml)
    if sealed is None or not (sealed.systemd or sealed.cloud_init):
        return request
    if request.first_boot is FirstBootWay.AUTO and sealed.cloud_init:
        request = replace(request, first_boot=FirstBootWay.CLOUD_INIT)
    return replace(request, hostname=request.hostname or AUTO)


def asked_for(spec: Mapping[str, Any]) -> CloneRequest:
    """The request a spec was made of, with the name that was chosen."""
    asked = dict(spec["request"])
    asked.update(name=spec["name"], macs=tuple(asked["macs"]), mode=CloneMode(asked["mode"]))
    asked["disks"] = tuple(
        DiskChoice(target=choice["target"], way=DiskWay(choice["way"]), path=choice["path"])
        for choice in asked["disks"]
    )
    asked["grow"] = tuple((target, size) for target, size in asked["grow"])
    asked["nvram_way"], asked["tpm_way"] = StateWay(asked["nvram_way"]), StateWay(asked["tpm_way"])
    asked["first_boot"] = FirstBootWay(asked["first_boot"])
    asked["nics"] = tuple((index, join, name) for index, join, name in asked["nics"])
    asked["ssh_keys"] = tuple(asked["ssh_keys"])
    return CloneRequest(**asked)


def asked(request: CloneRequest) -> dict[str, Any]:
    """The request as plain values; see :func:`asked_for`."""
    return {
        "name": request.name,
        "mode": request.mode.value,
        "pool": request.pool,
        "uuid": request.uuid,
        "macs": list(request.macs),
        "disks": [
            {"target": choice.target, "way": choice.way.value, "path": choice.path}
            for choice in request.disks
        ],
        "to": request.to,
        "nvram": request.nvram,
        "nvram_way": request.nvram_way.value,
        "tpm_way": request.tpm_way.value,
        "grow": [list(pair) for pair in request.grow],
        "address": request.address,
        "full_allocation": request.full_allocation,
        "vcpus": request.vcpus,
        "memory_bytes": request.memory_bytes,
        "nics": [list(nic) for nic in request.nics],
        "hostname": request.hostname,
        "ssh_keys": list(request.ssh_keys),
        "first_boot": request.first_boot.value,
        "snapshot": request.snapshot,
        "definition_file": request.definition_file,
        "start": request.start,
        "rate": request.rate,
        "verify": request.verify,
    }
