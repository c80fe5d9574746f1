"""What a clone has otherwise than its source: CPUs, memory, networks, and its first boot; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twinship.clone.firstboot import FirstBoot, hostname_for, oem_strings
from twinship.domxml.attachments import with_oem_strings
from twinship.domxml.settings import Join, NicChoice, with_memory, with_nic, with_vcpus
from twinship.model.errors import UsageError
from twinship.model.request import CloneRequest

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
    return {key: value for key, value in values.items() if value}


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
    hostname, keys = settings.get("hostname", ""), tuple(settings.get("ssh_keys", ()))
    if hostname or keys:
        entries = oem_strings(FirstBoot(hostname=hostname, ssh_keys=keys))
        yield lambda text: with_oem_strings(text, entries)
