"""What a clone has otherwise than its source: CPUs, memory, networks, and its first boot; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twinship.clone.firstboot import FirstBoot, hostname_for, nocloud, oem_strings
from twinship.clone.seed import seed_image
from twinship.domxml.attachments import with_oem_strings
from twinship.domxml.settings import Join, NicChoice, with_memory, with_nic, with_vcpus
from twinship.domxml.told import with_told
from twinship.model.errors import UsageError
from twinship.model.request import CloneRequest, FirstBootWay

AUTO = "auto"
"""As a host name: made of the VM's."""


def settings_of(request: CloneRequest, name: str) -> dict[str, Any]:
    """The settings as a spec has them; empty for a clone like its source."""
    hostname = hostname_for(name) if request.hostname == AUTO else request.hostname
    values: dict[str, Any] = {
        "vcpus": request.vcpus,
        "memory_bytes": request.memory_bytes,
        "nics": [list(nic) for nic in request.nics],
        "hostname": hostname,
        "ssh_keys": list(request.ssh_keys),
    }
    found = {key: value for key, value in values.items() if value}
    if request.first_boot is FirstBootWay.CLOUD_INIT and (hostname or request.ssh_keys):
        found["cloud_init"] = True
    return found


def seed_bytes(settings: Mapping[str, Any], uuid: str) -> bytes:
    """The NoCloud image for these settings; the same ones always give the same bytes."""
    return seed_image(nocloud(_first_boot(settings), uuid))


def with_settings(text: str, settings: Mapping[str, Any]) -> str:
    """The definition with these settings. Raises :class:`UsageError` for one it cannot have."""
    for edit in _edits(settings):
        text = edit(text)
    return text


def problems(text: str, settings: Mapping[str, Any]) -> tuple[UsageError, ...]:
    """Everything the definition cannot have, each on its own."""
    found = []
    try:
        edits = tuple(_edits(settings))
    except UsageError as error:
        return (error,)
    for edit in edits:
        try:
            edit(text)
        except UsageError as error:
            found.append(error)
    return tuple(found)


def _edits(settings: Mapping[str, Any]) -> Iterator[Any]:
    if vcpus := settings.get("vcpus"):
        yield lambda text: with_vcpus(text, vcpus)
    if memory := settings.get("memory_bytes"):
        yield lambda text: with_memory(text, memory)
    for index, join, name in settings.get("nics", ()):
        choice = NicChoice(index=index, join=Join(join), name=name)
        yield lambda text, choice=choice: with_nic(text, choice)
    first = _first_boot(settings)
    if (first.hostname or first.ssh_keys) and not settings.get("cloud_init"):
        entries = oem_strings(first)
        marked = [entry.partition("=")[0] for entry in entries]
        yield lambda text: with_told(with_oem_strings(text, entries), keys=marked)


def _first_boot(settings: Mapping[str, Any]) -> FirstBoot:
    keys = tuple(settings.get("ssh_keys", ()))
    return FirstBoot(hostname=settings.get("hostname", ""), ssh_keys=keys)
