"""``twinship host``."""

from __future__ import annotations

import click

from twinship.cli.completion import complete_host
from twinship.cli.quantities import size
from twinship.cli.render import output_option, print_document, print_table, visible
from twinship.cli.session import Session
from twinship.model.documents import host_document, listing
from twinship.model.errors import UsageError
from twinship.model.host import HostRecord, HostStatus


@click.group()
def host() -> None:
    """Hosts Twinship knows. This machine is there as "local" when its libvirt answers."""


@host.command("add")
@click.argument("name")
@click.argument("uri")
@click.option("--site", default="", help="Where it stands; relocate moves VMs between sites.")
@click.option("--address", default="", help="Where other hosts reach it for migration data.")
@click.option("--label", "labels", multiple=True, metavar="K=V", help="A label; may be repeated.")
@output_option
@click.pass_obj
def add(
    session: Session,
    name: str,
    uri: str,
    site: str,
    address: str,
    labels: tuple[str, ...],
    output: str,
) -> None:
    """Add a host.

    \b
    Examples:
      twinship host add kvm01 qemu+ssh://root@kvm01/system
      twinship host add kvm02 qemu+ssh://root@kvm02/system --address 10.0.9.2 --site berlin
    """
    record = HostRecord(name=name, uri=uri, address=address, site=site, labels=_labels(labels))
    status = session.controller.host_add(record)
    _print((status,), output, one=True)
    if not status.reachable:
        _why(status)


@host.command("list")
@output_option
@click.pass_obj
def list_(session: Session, output: str) -> None:
    """List hosts with their load; a dead one is a row that says so."""
    _print(session.controller.host_list(), output, one=False)


@host.command("show")
@click.argument("name", shell_complete=complete_host)
@output_option
@click.pass_obj
def show(session: Session, name: str, output: str) -> None:
    """Show one host: versions, memory, pools, networks."""
    status = session.controller.host_show(name)
    if output in ("json", "jsonl", "yaml", "name"):
        _print((status,), output, one=True)
        return
    _describe(status)


@host.command("check")
@click.argument("name", shell_complete=complete_host)
@click.option("--with", "other", help="Another host: what the two share, and what they lack.")
@output_option
@click.pass_obj
def check(session: Session, name: str, other: str | None, output: str) -> None:
    """Check a host, or a pair before the first move.

    Exits with 5 when something has to be mended; says what to type.
    """
    status = session.controller.host_show(name)
    if not status.reachable:
        _print((status,), output, one=True)
        _why(status)
        click.get_current_context().exit(5)
    if other is None:
        if output in ("json", "jsonl", "yaml", "name"):
            _print((status,), output, one=True)
        else:
            _describe(status)
        return
    _check_pair(session, name, other, output)


@host.command("remove")
@click.argument("name", shell_complete=complete_host)
@click.pass_obj
def remove(session: Session, name: str) -> None:
    """Forget a host. Nothing changes on it."""
    session.controller.host_remove(name)
    click.echo(f"host {name} is forgotten; nothing was changed on it", err=True)


def _check_pair(session: Session, name: str, other: str, output: str) -> None:
    import dataclasses

    sharing = session.controller.host_check(name, other)
    if output in ("json", "jsonl", "yaml"):
        print_document(dataclasses.asdict(sharing), output)
    else:
        rows = [
            [
                directory.path,
                directory.pool,
                {True: "shared", False: "not shared", None: "not tried"}[directory.shared],
                directory.why,
            ]
            for directory in sharing.directories
        ]
        print_table(["DIRECTORY", "POOL", f"{name} AND {other}", ""], rows)
        click.echo(f"networks on both: {', '.join(sharing.networks) or 'none'}")
        for word, sentences in (("missing", sharing.missing), ("note", sharing.notes)):
            for sentence in sentences:
                click.echo(f"{word}: {visible(sentence)}")
    if sharing.missing:
        click.get_current_context().exit(5)


def _labels(pairs: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise UsageError(f"{pair!r} is no label", hint="--label rack=7")
        labels[key] = value
    return labels


def _print(statuses: tuple[HostStatus, ...], output: str, *, one: bool) -> None:
    documents = [host_document(status) for status in statuses]
    if output in ("json", "jsonl", "yaml"):
        print_document(documents[0] if one else listing(documents), output)
    elif output == "name":
        for status in statuses:
            click.echo(status.record.name)
    else:
        headers = ["NAME", "STATE", "VMS", "CPUS", "MEMORY FREE", "LIBVIRT", "QEMU"]
        rows = [_row(status) for status in statuses]
        if output == "wide":
            headers = [*headers, "ADDRESS", "URI"]
            rows = [
                [*row, status.record.address, status.record.uri]
                for row, status in zip(rows, statuses, strict=True)
            ]
        print_table(headers, rows)
        if not statuses:
            click.echo("no hosts yet: twinship host add NAME URI, or: twinship lab up", err=True)
        if not one:
            for status in statuses:
                if not status.reachable:
                    _why(status)


def _row(status: HostStatus) -> list[str]:
    facts = status.facts
    if facts is None:
        return [status.record.name, "unreachable", "-", "-", "-", "-", "-"]
    return [
        status.record.name,
        "up",
        f"{status.vms_running}/{status.vms_total}",
        str(facts.cpus),
        f"{size(facts.memory_free_bytes)} of {size(facts.memory_bytes)}",
        ".".join(map(str, facts.libvirt_version)),
        ".".join(map(str, facts.qemu_version)),
    ]


def _why(status: HostStatus) -> None:
    click.echo(f"{status.record.name}: {status.error}", err=True)
    for line in _what_to_type(status):
        click.echo(f"  {line}", err=True)


def _what_to_type(status: HostStatus) -> list[str]:
    uri = status.record.uri
    where = uri.partition("://")[2].partition("/")[0]
    if "+ssh" in uri:
        return [
            f"ssh {where} true            (the first time: check and accept its key)",
            f"ssh-copy-id {where}         (log in there without a password)",
            f"ssh {where} systemctl start libvirtd   (or virtqemud.socket)",
        ]
    if "+tcp" in uri or "+tls" in uri:
        port = "16514 (TLS)" if "+tls" in uri else "16509 (TCP)"
        return [f"on {where}: open port {port} and let libvirtd listen on it"]
    return ["systemctl start libvirtd   (or virtqemud.socket)"]


def _describe(status: HostStatus) -> None:
    record, facts = status.record, status.facts
    lines = [("Name", record.name), ("URI", record.uri)]
    if record.address:
        lines.append(("Address", record.address))
    if record.site:
        lines.append(("Site", record.site))
    if facts is None:
        lines.append(("State", f"unreachable: {status.error}"))
    else:
        lines += [
            ("State", f"up, answered in {status.seconds:.2f} s"),
            ("Host name", facts.hostname),
            ("UUID", facts.uuid),
            ("libvirt", ".".join(map(str, facts.libvirt_version))),
            ("QEMU", ".".join(map(str, facts.qemu_version))),
            ("CPU", f"{facts.cpus} x {facts.cpu_model or facts.arch} ({facts.cpu_vendor or '?'})"),
            ("Memory", f"{size(facts.memory_free_bytes)} free of {size(facts.memory_bytes)}"),
            ("VMs", f"{status.vms_running} running, {status.vms_total} in all"),
            ("Guests", ", ".join(facts.domain_types)),
        ]
    for label, text in lines:
        click.echo(f"{label + ':':<12}{text}")
    if facts is not None and facts.pools:
        click.echo()
        print_table(
            ["POOL", "STATE", "FREE", "SIZE", "PATH"],
            [
                [
                    pool.name,
                    "active" if pool.active else "inactive",
                    size(pool.available_bytes),
                    size(pool.capacity_bytes),
                    pool.path or pool.type,
                ]
                for pool in facts.pools
            ],
        )
    if facts is not None and facts.networks:
        click.echo()
        print_table(
            ["NETWORK", "STATE", "BRIDGE"],
            [[n.name, "active" if n.active else "inactive", n.bridge] for n in facts.networks],
        )
