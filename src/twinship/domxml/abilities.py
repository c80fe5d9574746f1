"""What a host's QEMU offers one kind of machine, as libvirt's domain capabilities tell; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lxml import etree

from twinship.domxml.document import parse, text_of

# Kind as in :mod:`twinship.domxml.needs`: device in the capabilities, and its enum.
_ENUMS = {
    "video": ("devices/video", "modelType"),
    "graphics": ("devices/graphics", "type"),
    "rng": ("devices/rng", "backendModel"),
    "tpm": ("devices/tpm", "model"),
    "tpm backend": ("devices/tpm", "backendModel"),
    "disk bus": ("devices/disk", "bus"),
    "filesystem": ("devices/filesystem", "driverType"),
    "memory source": ("memoryBacking", "sourceType"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What a target can give. A kind that is not in ``models`` is one the host does not tell of.

    ``loaders`` are the firmware files it has descriptors of. ``max_vcpus`` 0: not told.
    """

    emulator: str = ""
    machine: str = ""
    max_vcpus: int = 0
    models: Mapping[str, frozenset[str]] = field(default_factory=dict)
    loaders: frozenset[str] = frozenset()
    firmwares: frozenset[str] = frozenset()
    protections: frozenset[str] = frozenset()

    def lacks(self, kind: str, model: str) -> bool:
        """Whether the host tells of this kind, and the model is not among it."""
        return kind in self.models and model not in self.models[kind]


def abilities(text: str) -> Abilities:
    """Reads a ``<domainCapabilities>``."""
    root = parse(text)
    vcpu = root.find("vcpu")
    most = vcpu.get("max", "") if vcpu is not None else ""
    found: dict[str, frozenset[str]] = {}
    for kind, (path, name) in _ENUMS.items():
        device = root.find(path)
        if device is None:
            continue
        values = _values(device, name)
        if values or device.get("supported") == "no":
            found[kind] = values
    loader = root.find("os/loader")
    os = root.find("os")
    return Abilities(
        emulator=text_of(root, "path"),
        machine=text_of(root, "machine"),
        max_vcpus=int(most) if most.isdigit() else 0,
        models=found,
        loaders=frozenset(
            (value.text or "") for value in (loader.findall("value") if loader is not None else ())
        ),
        firmwares=_values(os, "firmware") if os is not None else frozenset(),
        protections=frozenset(
            feature for feature in ("sev", "sgx") if _supported(root, f"features/{feature}")
        )
        | _values(root, "sectype"),
    )


def host_model(text: str) -> str:
    """The ``<cpu>`` that ``host-model`` stands for on a host; empty when it does not say."""
    mode = parse(text).find("cpu/mode[@name='host-model']")
    if mode is None or mode.get("supported") != "yes" or mode.find("model") is None:
        return ""
    mode.tag = "cpu"
    for name in list(mode.attrib):
        del mode.attrib[name]
    return etree.tostring(mode, encoding="unicode").strip()


def _values(parent: etree._Element, name: str) -> frozenset[str]:
    return frozenset((v.text or "") for v in parent.iterfind(f".//enum[@name='{name}']/value"))


def _supported(root: etree._Element, path: str) -> bool:
    found = root.find(path)
    return found is not None and found.get("supported") == "yes"
