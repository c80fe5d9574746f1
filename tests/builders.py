"""Builders of facts: every test says only what matters to it.

::

    vm = a_vm("web").with_disk("vda", gib=8).with_nic().running()
    facts = a_clone_of(vm, on=a_host("kvm01").with_pool("images"))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from twinship.clone.facts import CloneFacts
from twinship.domxml import read as domread
from twinship.domxml.needs import needs
from twinship.migrate.facts import MigrateFacts, TargetFile
from twinship.migrate.places import places
from twinship.model.host import HostFacts, HostRecord, Network, Pool
from twinship.model.operation import Operation, OperationState
from twinship.model.plan import Plan, Step
from twinship.model.request import CloneRequest, MigrateRequest, NewIds
from twinship.model.vm import ImageHeader, Layer, Vm, VmFacts, VmState

GIB = 1024**3
IMAGES = "/var/lib/libvirt/images"
WEB_UUID = "11111111-2222-4333-8444-555555555555"


def new_ids(nics: int = 1) -> NewIds:
    """The random values of a plan, not random at all."""
    return NewIds(
        uuid="aaaaaaaa-0000-4000-8000-000000000001",
        genid="bbbbbbbb-0000-4000-8000-000000000002",
        macs=tuple(f"52:54:00:aa:bb:{number:02x}" for number in range(nics)),
        carrier="cccccccc-0000-4000-8000-000000000003",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _DiskPart:
    target: str
    xml: str
    chain: tuple[Layer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VmBuilder:
    """A VM whose XML, summary and facts agree. Every method returns a new one."""

    name: str
    uuid: str = WEB_UUID
    host: str = "kvm01"
    state: VmState = VmState.SHUT_OFF
    persistent: bool = True
    type: str = "kvm"
    memory_gib: int = 1
    parts: tuple[_DiskPart, ...] = ()
    devices: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    os: tuple[str, ...] = ()
    nics: int = 0
    firmware: str = ""
    machine: str = "pc-q35-7.2"
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def on(self, host: str) -> VmBuilder:
        return dataclasses.replace(self, host=host)

    def of_type(self, kind: str) -> VmBuilder:
        return dataclasses.replace(self, type=kind)

    def with_memory(self, *, gib: int) -> VmBuilder:
        return dataclasses.replace(self, memory_gib=gib)

    def running(self) -> VmBuilder:
        return dataclasses.replace(self, state=VmState.RUNNING)

    def in_state(self, state: VmState) -> VmBuilder:
        return dataclasses.replace(self, state=state)

    def transient(self) -> VmBuilder:
        return dataclasses.replace(self, persistent=False, state=VmState.RUNNING)

    def having(self, **facts: Any) -> VmBuilder:
        """Fields of ``VmFacts``: ``snapshots=2``, ``managed_save=True``, ``job="backup"``."""
        return dataclasses.replace(self, more={**self.more, **facts})

    def with_disk(
        self,
        target: str = "vda",
        *,
        format: str = "qcow2",
        gib: float = 8,
        used_gib: float = 1,
        pool: str = "images",
        path: str = "",
        cache: str = "none",
        backing: tuple[str, ...] = (),
        problem: str = "",
        problem_code: str = "",
        header: Mapping[str, Any] | None = None,
        inside: str = "",
    ) -> VmBuilder:
        """A disk in a file, on top of the ``backing`` files; ``inside`` is more of its XML."""
        top = path or f"{IMAGES}/{self.name}-{target}.{format}"
        paths = (top, *backing)
        chain = tuple(
            Layer(
                path=layer,
                pool=pool,
                length_bytes=int(used_gib * GIB),
                allocated_bytes=int(used_gib * GIB),
                header=ImageHeader(
                    format=format,
                    virtual_bytes=int(gib * GIB),
                    cluster_bytes=65536 if format == "qcow2" else 0,
                    compat="1.1" if format == "qcow2" else "",
                    backing_path=paths[depth + 1] if depth + 1 < len(paths) else "",
                    **(header or {}),
                ),
            )
            for depth, layer in enumerate(paths)
        )
        if problem:
            chain = (
                *chain[:-1],
                dataclasses.replace(
                    chain[-1], header=None, problem=problem, problem_code=problem_code
                ),
            )
        xml = (
            f"<disk type='file' device='disk'><driver name='qemu' type='{format}'"
            f"{f' cache={quoteattr(cache)}' if cache else ''}/>"
            f"<source file={quoteattr(top)}/><target dev='{target}' bus='virtio'/>{inside}</disk>"
        )
        return self._with_part(_DiskPart(target=target, xml=xml, chain=chain))

    def with_cdrom(self, path: str = "", target: str = "sda") -> VmBuilder:
        source = f"<source file={quoteattr(path)}/>" if path else ""
        xml = (
            f"<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>{source}"
            f"<target dev='{target}' bus='sata'/><readonly/></disk>"
        )
        return self._with_part(_DiskPart(target=target, xml=xml, chain=()))

    def with_floppy(self, path: str, target: str = "fda") -> VmBuilder:
        source = f"<source file={quoteattr(path)}/>" if path else ""
        xml = (
            f"<disk type='file' device='floppy'><driver name='qemu' type='raw'/>{source}"
            f"<target dev='{target}' bus='fdc'/></disk>"
        )
        return self._with_part(_DiskPart(target=target, xml=xml, chain=()))

    def with_block_disk(
        self,
        path: str = "/dev/vg/web",
        target: str = "vdb",
        *,
        pool: str = "",
        format: str = "raw",
        device: str = "disk",
        length: int = GIB,
    ) -> VmBuilder:
        """A disk on a block device of its host, in a storage pool or in none."""
        xml = (
            f"<disk type='block' device='{device}'><driver name='qemu' type='{format}'/>"
            f"<source dev={quoteattr(path)}/><target dev='{target}' bus='virtio'/></disk>"
        )
        layer = Layer(
            path=path,
            pool=pool,
            length_bytes=length,
            allocated_bytes=length,
            header=ImageHeader(format="raw", virtual_bytes=length),
            block=True,
        )
        return self._with_part(_DiskPart(target=target, xml=xml, chain=(layer,)))

    def with_volume_disk(
        self, volume: str = "web.qcow2", target: str = "vdb", inside: str = ""
    ) -> VmBuilder:
        """A disk named by a pool and a volume that its host does not know."""
        xml = (
            "<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/>"
            f"<source pool='images' volume={quoteattr(volume)}/>"
            f"<target dev='{target}' bus='virtio'/>{inside}</disk>"
        )
        return self._with_part(_DiskPart(target=target, xml=xml, chain=()))

    def with_network_disk(self, target: str = "vdb", inside: str = "") -> VmBuilder:
        xml = (
            "<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none'/>"
            f"<source protocol='nbd' name='web'><host name='store' port='10809'/>{inside}</source>"
            f"<target dev='{target}' bus='virtio'/></disk>"
        )
        return self._with_part(_DiskPart(target=target, xml=xml, chain=()))

    def with_nic(
        self, *, kind: str = "network", source: str = "default", mac: str = "52:54:00:00:00:01"
    ) -> VmBuilder:
        key = {"network": "network", "bridge": "bridge"}.get(kind, "dev")
        xml = (
            f"<interface type='{kind}'><mac address='{mac}'/>"
            f"<source {key}={quoteattr(source)}/><model type='virtio'/></interface>"
        )
        return dataclasses.replace(self, devices=(*self.devices, xml), nics=self.nics + 1)

    def with_device(self, xml: str) -> VmBuilder:
        """More below ``<devices>``."""
        return dataclasses.replace(self, devices=(*self.devices, xml))

    def with_element(self, xml: str) -> VmBuilder:
        """More below ``<domain>``."""
        return dataclasses.replace(self, elements=(*self.elements, xml))

    def with_nvram(self, path: str) -> VmBuilder:
        return dataclasses.replace(self, os=(*self.os, f"<nvram>{escape(path)}</nvram>"))

    def with_loader(self, path: str) -> VmBuilder:
        return dataclasses.replace(self, os=(*self.os, f"<loader>{escape(path)}</loader>"))

    def xml(self) -> str:
        """The whole ``<domain>``."""
        firmware = f" firmware='{self.firmware}'" if self.firmware else ""
        return (
            f"<domain type='{self.type}'><name>{escape(self.name)}</name><uuid>{self.uuid}</uuid>"
            f"{''.join(self.elements)}<memory unit='GiB'>{self.memory_gib}</memory>"
            f"<vcpu>2</vcpu><os{firmware}><type arch='x86_64' machine='{self.machine}'>"
            "hvm</type>"
            f"{''.join(self.os)}</os><devices><emulator>/usr/bin/qemu-system-x86_64</emulator>"
            f"{''.join(part.xml for part in self.parts)}{''.join(self.devices)}"
            "</devices></domain>"
        )

    def facts(self) -> VmFacts:
        chains = {part.target: part.chain for part in self.parts}
        xml = self.xml()
        values: dict[str, Any] = {
            "vm": Vm(
                host=self.host,
                name=self.name,
                uuid=self.uuid,
                state=self.state,
                persistent=self.persistent,
                vcpus=2,
                memory_bytes=self.memory_gib * GIB,
            ),
            "inactive_xml": xml if self.persistent else "",
            "live_xml": xml if self.state.active else "",
            "disks": tuple(
                dataclasses.replace(disk, chain=chains[disk.target]) for disk in domread.disks(xml)
            ),
        }
        return VmFacts(**(values | dict(self.more)))

    def summary(self) -> domread.DomainSummary:
        return domread.summary(self.xml())

    def _with_part(self, part: _DiskPart) -> VmBuilder:
        return dataclasses.replace(self, parts=(*self.parts, part))


def a_vm(name: str = "web", **fields: Any) -> VmBuilder:
    """A shut-off KVM guest without any device."""
    return VmBuilder(name=name, **fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostBuilder:
    """A host like any other. Every method returns a new one."""

    name: str
    pools: tuple[Pool, ...] = ()
    networks: tuple[Network, ...] = ()
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def with_pool(
        self,
        name: str = "images",
        *,
        path: str = IMAGES,
        free_gib: float = 100,
        active: bool = True,
        type: str = "dir",
    ) -> HostBuilder:
        pool = Pool(
            name=name,
            type=type,
            path=path,
            active=active,
            capacity_bytes=200 * GIB,
            available_bytes=int(free_gib * GIB),
        )
        return dataclasses.replace(self, pools=(*self.pools, pool))

    def with_network(
        self, name: str = "default", *, active: bool = True, forward: str = ""
    ) -> HostBuilder:
        network = Network(name=name, active=active, bridge="virbr0", forward=forward)
        return dataclasses.replace(self, networks=(*self.networks, network))

    def having(self, **facts: Any) -> HostBuilder:
        """Fields of ``HostFacts``: ``arch="aarch64"``, ``memory_free_bytes=0``."""
        return dataclasses.replace(self, more={**self.more, **facts})

    def facts(self) -> HostFacts:
        values: dict[str, Any] = {
            "name": self.name,
            "uuid": f"host-uuid-of-{self.name}",
            "hostname": f"{self.name}.example.org",
            "libvirt_version": (9, 0, 0),
            "qemu_version": (7, 2, 0),
            "arch": "x86_64",
            "cpu_vendor": "Intel",
            "cpu_model": "Skylake-Server",
            "cpus": 16,
            "memory_bytes": 64 * GIB,
            "memory_free_bytes": 32 * GIB,
            "security_models": ("none",),
            "domain_types": ("kvm", "qemu"),
            "pools": self.pools,
            "networks": self.networks,
            "interfaces": ("br0", "eth0"),
            "privileged": True,
        }
        return HostFacts(**(values | dict(self.more)))


def a_host(name: str = "kvm01") -> HostBuilder:
    """A host with nothing but libvirt."""
    return HostBuilder(name=name)


def a_usual_host(name: str = "kvm01") -> HostBuilder:
    """A host with the pool ``images`` and the network ``default``."""
    return a_host(name).with_pool().with_network()


def a_clone_of(vm: VmBuilder, *, on: HostBuilder | None = None, **changes: Any) -> CloneFacts:
    """The facts of a clone on a host where nothing but the source is."""
    host = on or a_usual_host(vm.host)
    top = {part.chain[0].path.rpartition("/")[2] for part in vm.parts if part.chain}
    values: dict[str, Any] = {
        "host": host.facts(),
        "source": vm.facts(),
        "summary": vm.summary(),
        "names": frozenset({vm.name}),
        "uuids": frozenset({vm.uuid}),
        "macs": frozenset(nic.mac for nic in vm.summary().nics),
        "files": {pool.name: frozenset(top) for pool in host.pools},
    }
    return CloneFacts(**(values | changes))


def clone_request(vm: str = "web", **fields: Any) -> CloneRequest:
    return CloneRequest(vm=vm, **fields)


def a_move_of(
    vm: VmBuilder,
    *,
    source: HostBuilder | None = None,
    target: HostBuilder | None = None,
    asked: MigrateRequest | None = None,
    **changes: Any,
) -> MigrateFacts:
    """The facts of a move to a like host where no file of the VM is.

    ``asked``: files were looked for where this request puts them.
    """
    here, there = source or a_usual_host("kvm01"), target or a_usual_host("kvm02")
    values: dict[str, Any] = {
        "source": here.facts(),
        "target": there.facts(),
        "source_record": HostRecord(
            name=here.name, uri=f"qemu+ssh://root@{here.name}.example.org/system"
        ),
        "target_record": HostRecord(
            name=there.name, uri=f"qemu+ssh://root@{there.name}.example.org/system"
        ),
        "vm": vm.facts(),
        "summary": vm.summary(),
        "inactive": vm.summary() if vm.persistent else None,
        "uuid_on_target": None,
        "name_on_target": "",
        "machine_problem": "",
        "cpu_problem": "",
        "files": {
            layer.path: TargetFile(exists=False) for part in vm.parts for layer in part.chain
        },
        "media": {},
        "needs": needs(vm.xml()),
        "places": places(there.facts(), vm.facts(), (), asked or move_request()),
    }
    return MigrateFacts(**(values | changes))


def shared_files(vm: VmBuilder) -> dict[str, TargetFile]:
    """What the target shows when both hosts see the very same files."""
    return {
        layer.path: TargetFile(exists=True, same=True) for part in vm.parts for layer in part.chain
    }


def move_request(vm: str = "web", target: str = "kvm02", **fields: Any) -> MigrateRequest:
    return MigrateRequest(vm=vm, target=target, **fields)


def a_plan(*resources: str, kind: str = "fake", slots: tuple[str, ...] = (), **spec: Any) -> Plan:
    """A plan for the engine."""
    return Plan(
        kind=kind,
        title=f"do something to {', '.join(resources) or 'nothing'}",
        checks=(),
        steps=(Step(id="one", title="one step", host="kvm01"),),
        estimate_s=None,
        resources=resources,
        slots=slots,
        spec=spec,
    )


def an_operation(**fields: Any) -> Operation:
    """An operation that was just stored."""
    values: dict[str, Any] = {
        "id": "op-1",
        "kind": "fake",
        "title": "do something",
        "state": OperationState.QUEUED,
        "created": datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
        "started": None,
        "ended": None,
        "user": "root",
        "resources": (),
        "spec": {},
        "owner": "boot:1:1",
        "fence": 1,
    }
    return Operation(**(values | fields))
