"""What a host shows of itself: versions, CPU, memory, pools, networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import libvirt
from lxml import etree

from twinship.domxml.document import parse, text_of
from twinship.domxml.read import bytes_of
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.translate import doing, translated
from twinship.model.host import HostFacts, Network, NumaCell, Pool


def facts(connection: Connection) -> HostFacts:
    """Reads a host; about ten calls."""
    raw = connection.raw
    with doing(f"read host {connection.name}"):
        capabilities = parse(raw.getCapabilities())
        memory = raw.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
        host = capabilities.find("host")
        cpu = capabilities.find("host/cpu")
        arch = text_of(capabilities, "host/cpu/arch")
        return HostFacts(
            name=connection.name,
            uuid=text_of(capabilities, "host/uuid"),
            hostname=raw.getHostname(),
            libvirt_version=_version(raw.getLibVersion()),
            qemu_version=_version(raw.getVersion()),
            arch=arch,
            cpu_vendor=text_of(cpu, "vendor") if cpu is not None else "",
            cpu_model=text_of(cpu, "model") if cpu is not None else "",
            cpus=raw.getInfo()[2],
            memory_bytes=memory.get("total", 0) * 1024,
            memory_free_bytes=1024
            * sum(memory.get(part, 0) for part in ("free", "buffers", "cached")),
            security_models=tuple(
                (model.text or "")
                for model in (host.findall("secmodel/model") if host is not None else [])
            ),
            domain_types=tuple(
                sorted({d.get("type", "") for d in _guest_domains(capabilities, arch)})
            ),
            pools=pools(connection),
            networks=_networks(raw),
            interfaces=_interfaces(raw),
            privileged=raw.getURI().split("?")[0].endswith("/system"),
            cpu_microcode=_attribute(capabilities, "host/cpu/microcode", "version"),
            tsc_hz=int(_attribute(capabilities, _TSC, "frequency") or 0),
            tsc_scaling=_attribute(capabilities, _TSC, "scaling") == "yes",
            cells=tuple(_cell(cell) for cell in capabilities.iterfind("host/topology/cells/cell")),
        )


_TSC = "host/cpu/counter[@name='tsc']"


def _cell(cell: etree._Element) -> NumaCell:
    return NumaCell(
        number=int(cell.get("id", "0")),
        memory_bytes=bytes_of(cell.find("memory")),
        cpus=tuple(int(cpu.get("id", "0")) for cpu in cell.iterfind("cpus/cpu")),
    )


def pools(connection: Connection) -> tuple[Pool, ...]:
    """The storage pools, active or not. Paths are those libvirt was told."""
    found = []
    with doing(f"list the storage pools of {connection.name}"):
        for pool in connection.raw.listAllStoragePools(0):
            root = parse(pool.XMLDesc(0))
            info = pool.info()
            found.append(
                Pool(
                    name=pool.name(),
                    type=root.get("type", ""),
                    path=text_of(root, "target/path"),
                    active=bool(pool.isActive()),
                    capacity_bytes=info[1],
                    available_bytes=info[3],
                )
            )
    return tuple(sorted(found, key=lambda pool: pool.name))


def capabilities_for(
    connection: Connection, *, emulator: str, arch: str, machine: str, domain_type: str
) -> tuple[str, str]:
    """What the host's QEMU offers such a machine (a ``<domainCapabilities>``), or why it cannot.

    One of the two is empty. Source: virConnectGetDomainCapabilities fails for an emulator or
    machine it does not have.
    """
    try:
        text = connection.raw.getDomainCapabilities(
            emulator or None, arch or None, machine or None, domain_type or None, 0
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() in (
            libvirt.VIR_ERR_INVALID_ARG,
            libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
            libvirt.VIR_ERR_SYSTEM_ERROR,
            libvirt.VIR_ERR_OPERATION_FAILED,
            libvirt.VIR_ERR_INTERNAL_ERROR,
        ):
            return "", str(error.get_error_message())
        raise translated(error, f"ask {connection.name} for its machine types") from error
    return str(text), ""


def cpu_problem(
    connection: Connection,
    *,
    cpu_xml: str,
    emulator: str,
    arch: str,
    machine: str,
    domain_type: str,
) -> str:
    """Why the host cannot give this CPU to a guest; empty when it can, "?" when it cannot say.

    Source: virConnectCompareHypervisorCPU, since libvirt 4.4.0.
    """
    flags = libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE
    try:
        answer = connection.raw.compareHypervisorCPU(
            emulator or None, arch or None, machine or None, domain_type or None, cpu_xml, flags
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_CPU_INCOMPATIBLE:
            return str(error.get_error_message())
        return "?"
    return "" if answer > libvirt.VIR_CPU_COMPARE_INCOMPATIBLE else "the CPU is incompatible"


def baseline(
    connection: Connection,
    cpus: Sequence[str],
    *,
    emulator: str,
    arch: str,
    machine: str,
    domain_type: str,
) -> str:
    """The best ``<cpu>`` that all of these hosts' CPUs can give a guest; empty for none.

    Only features that may move are in it. Source: virConnectBaselineHypervisorCPU, since 4.4.0.
    """
    flags = libvirt.VIR_CONNECT_BASELINE_CPU_MIGRATABLE
    try:
        return str(
            connection.raw.baselineHypervisorCPU(
                emulator or None,
                arch or None,
                machine or None,
                domain_type or None,
                list(cpus),
                flags,
            )
        ).strip()
    except libvirt.libvirtError:
        return ""  # CPUs of two makers have nothing in common


def _guest_domains(capabilities: etree._Element, arch: str) -> list[etree._Element]:
    return [
        domain
        for guest in capabilities.findall("guest")
        for guest_arch in guest.findall("arch")
        if guest_arch.get("name") == arch
        for domain in guest_arch.findall("domain")
    ]


def _networks(raw: Any) -> tuple[Network, ...]:
    found = []
    for network in raw.listAllNetworks(0):
        root = parse(network.XMLDesc(0))
        bridge = root.find("bridge")
        found.append(
            Network(
                name=network.name(),
                active=bool(network.isActive()),
                bridge=bridge.get("name", "") if bridge is not None else "",
                forward=_attribute(root, "forward", "mode")
                or ("nat" if root.find("forward") is not None else "isolated"),
                portgroups=tuple(group.get("name", "") for group in root.iterfind("portgroup")),
                mtu=int(_attribute(root, "mtu", "size") or 0),
            )
        )
    return tuple(sorted(found, key=lambda network: network.name))


def _interfaces(raw: Any) -> tuple[str, ...]:
    """Names of the host's network devices; a host without a node device driver shows none."""
    try:
        devices = raw.listAllDevices(libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_NET)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return ()
        raise
    found = {text_of(parse(device.XMLDesc(0)), "capability/interface") for device in devices}
    return tuple(sorted(found - {""}))


def _attribute(root: etree._Element, path: str, name: str) -> str:
    found = root.find(path)
    return found.get(name, "") if found is not None else ""


def _version(number: int) -> tuple[int, int, int]:
    return number // 1_000_000, number // 1_000 % 1_000, number % 1_000
