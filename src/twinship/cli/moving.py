"""``twinship clone`` and ``twinship migrate``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from twinship.cli.completion import complete_host, complete_vm
from twinship.cli.outcome import accepted, finish, progress
from twinship.cli.quantities import Duration, Rate, Size, seconds, size
from twinship.cli.render import output_option, print_plan, visible
from twinship.cli.session import Session
from twinship.model.errors import UsageError
from twinship.model.operation import Operation
from twinship.model.request import (
    CloneMode,
    CloneRequest,
    DiskChoice,
    DiskWay,
    MigrateMode,
    MigrateRequest,
    StorageWay,
)
from twinship.planning.pattern import MOST, expand

_wait_option = click.option(
    "--wait/--no-wait", default=True, help="Wait for the end, or leave a worker process behind."
)
_dry_run_option = click.option("--dry-run", is_flag=True, help="Print the plan and touch nothing.")
_bandwidth_option = click.option(
    "--bandwidth", type=Rate(), metavar="RATE", help="The most to use, in all: 50MB/s."
)


@click.command()
@click.argument("source", metavar="VM", shell_complete=complete_vm)
@click.argument("new", nargs=-1)
@click.option("--count", type=click.IntRange(1, MOST), help="Make that many clones.")
@click.option("--name", "pattern", default="", metavar="PATTERN", help="Their names: 'web{n:03}'.")
@click.option("--first", default=1, show_default=True, type=click.IntRange(0), help="Number from.")
@click.option("--keep-going", is_flag=True, help="Of many: keep those that worked.")
@click.option("--to", "to", default="", metavar="HOST", shell_complete=complete_host, help="Where.")
@click.option(
    "--mode",
    type=click.Choice(["auto", "full", "linked"]),
    default="auto",
    show_default=True,
    help="linked: a thin disk over the source's. full: shares nothing. auto: full, but what the "
    "source is itself based on stays shared.",
)
@click.option(
    "--disk",
    "disks",
    multiple=True,
    metavar="TARGET=WAY",
    help="For one disk: vda=copy, share, drop, keep:/FILE or path:/FILE.",
)
@click.option("--vcpus", type=click.IntRange(1), help="Virtual CPUs; else as the source.")
@click.option("--memory", type=Size(), help="Memory; else as the source: 4GiB.")
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="NIC=NAME",
    help="For one interface, from 0: 0=NETWORK, 1=bridge:BRIDGE.",
)
@click.option("--hostname", default="", help="The guest's host name; auto: made of the VM's.")
@click.option(
    "--ssh-key",
    "ssh_key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Public keys for the guest's root.",
)
@click.option("--nvram", default="", metavar="PATH", help="Where its firmware variables go.")
@click.option("--pool", default="", help="The pool for the new disks; default: beside the old.")
@click.option("--mac", "macs", multiple=True, help="For the interfaces in order; else random.")
@click.option("--uuid", default="", help="The UUID of the clone; else random.")
@click.option("--start", is_flag=True, help="Start the clone.")
@click.option("--wait-boot", is_flag=True, help="With --start: wait until its guest is up.")
@click.option("--verify", is_flag=True, help="Compare the content of copy and source as well.")
@_bandwidth_option
@_wait_option
@_dry_run_option
@output_option
@click.pass_context
def clone(
    ctx: click.Context,
    source: str,
    new: tuple[str, ...],
    count: int | None,
    pattern: str,
    first: int,
    keep_going: bool,
    to: str,
    mode: str,
    disks: tuple[str, ...],
    vcpus: int | None,
    memory: int | None,
    networks: tuple[str, ...],
    hostname: str,
    ssh_key: Path | None,
    nvram: str,
    pool: str,
    macs: tuple[str, ...],
    uuid: str,
    start: bool,
    wait_boot: bool,
    verify: bool,
    bandwidth: int | None,
    wait: bool,
    dry_run: bool,
    output: str,
) -> None:
    """Copy a shut-off VM, all its disks, with a name, UUID, MACs and NVRAM of its own.

    \b
    Examples:
      twinship clone web web-2
      twinship clone kvm01/web --dry-run        what would happen
      twinship clone web web-test --start --wait-boot
      twinship clone web web-thin --mode linked
      twinship clone web --count 20 --name 'web{n:02}' --mode linked
      twinship clone web web-2 --to kvm02 --disk vdb=drop
    """
    session: Session = ctx.obj
    names = _names(new, count, pattern, first)
    if len(names) > 1 and (uuid or macs or nvram or any(":" in text for text in disks)):
        raise UsageError("--uuid, --mac, --nvram and disk paths are for a single clone")
    request = CloneRequest(
        vm=source,
        name=names[0] if len(names) == 1 else "",
        to=to,
        mode=CloneMode(mode),
        disks=tuple(_disk_choice(text) for text in disks),
        vcpus=vcpus or 0,
        memory_bytes=memory or 0,
        nics=tuple(_nic(text) for text in networks),
        hostname=hostname,
        ssh_keys=_keys(ssh_key),
        nvram=nvram,
        pool=pool,
        uuid=_uuid(uuid),
        macs=tuple(_mac(mac) for mac in macs),
        start=start or wait_boot,
        rate=bandwidth or 0,
        verify=verify,
    )
    if dry_run:
        plan = (
            session.controller.clone_plan(request)
            if len(names) == 1
            else session.controller.clone_many_plan(request, names, keep_going=keep_going)
        )
        print_plan(plan, output)
        ctx.exit(0 if plan.feasible else 5)
    line = progress(output)
    try:
        op = (
            session.controller.clone(request, wait=wait, watch=line)
            if len(names) == 1
            else session.controller.clone_many(
                request, names, keep_going=keep_going, wait=wait, watch=line
            )
        )
    finally:
        line.close()
    if not wait:
        accepted(op, output)
        return
    for made in (op.result or {}).get("clones", []) if wait_boot else ():
        if made["started"]:
            session.controller.wait_boot(f"{made['host']}/{made['uuid']}", 120)
    finish(ctx, op, output, _told_clone)


@click.command()
@click.argument("source", metavar="VM", shell_complete=complete_vm)
@click.option(
    "--to",
    "target",
    required=True,
    metavar="HOST",
    shell_complete=complete_host,
    help="Where it shall be.",
)
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in MigrateMode]),
    default="auto",
    show_default=True,
    help="auto: live when it runs, offline when it is shut off.",
)
@click.option("--max-pause", type=Duration(), help="Longest pause at the end of a live move.")
@click.option(
    "--storage",
    type=click.Choice([way.value for way in StorageWay]),
    default="auto",
    show_default=True,
    help="auto: a disk both hosts see stays, any other is copied.",
)
@click.option("--stay-defined", is_flag=True, help="Its definition stays at the source, too.")
@click.option("--temporary", is_flag=True, help="On the target only as long as it runs.")
@click.option("--verify", is_flag=True, help="Offline: compare the content of both ends.")
@_bandwidth_option
@_wait_option
@_dry_run_option
@output_option
@click.pass_context
def migrate(
    ctx: click.Context,
    source: str,
    target: str,
    mode: str,
    max_pause: float | None,
    storage: str,
    stay_defined: bool,
    temporary: bool,
    verify: bool,
    bandwidth: int | None,
    wait: bool,
    dry_run: bool,
    output: str,
) -> None:
    """Move a VM to another host: running or shut off, with its disks.

    Afterwards it is defined on the target and gone from the source; the old disk files stay
    at the source, untouched.

    \b
    Examples:
      twinship migrate web --to kvm02
      twinship migrate web --to kvm02 --dry-run       what stands in the way
      twinship migrate db --to kvm02 --max-pause 500ms --bandwidth 200MB/s
    """
    session: Session = ctx.obj
    request = MigrateRequest(
        vm=source,
        target=target,
        mode=MigrateMode(mode),
        storage=StorageWay(storage),
        stay_defined=stay_defined,
        temporary=temporary,
        max_pause_s=max_pause,
        rate=bandwidth or 0,
        verify=verify,
    )
    if dry_run:
        plan = session.controller.migrate_plan(request)
        print_plan(plan, output)
        ctx.exit(0 if plan.feasible else 5)
    line = progress(output)
    try:
        op = session.controller.migrate(request, wait=wait, watch=line)
    finally:
        line.close()
    if not wait:
        accepted(op, output)
        return
    finish(ctx, op, output, _told_move)


def _names(new: tuple[str, ...], count: int | None, pattern: str, first: int) -> tuple[str, ...]:
    """The names asked for; empty ones are to be found."""
    if new and (count is not None or pattern):
        raise UsageError("give names, or --count with --name, not both")
    if new:
        if len(set(new)) != len(new):
            raise UsageError("a name is given twice")
        return new
    if pattern:
        return expand(pattern, first, count or 1)
    return ("",) * (count or 1)


def _nic(text: str) -> tuple[int, str, str]:
    """``0=lan``, ``1=network:lan``, ``0=bridge:br0``."""
    index, equals, said = text.partition("=")
    kind, colon, name = said.partition(":")
    join, name = (kind, name) if colon else ("network", said)
    if not index.isdecimal() or not equals or join not in ("network", "bridge") or not name:
        raise UsageError(
            f"--network {text!r} cannot be understood", hint="0=NETWORK or 0=bridge:BRIDGE"
        )
    return int(index), join, name


def _keys(file: Path | None) -> tuple[str, ...]:
    if file is None:
        return ()
    from twinship.clone.firstboot import public_keys

    return public_keys(file.read_text(errors="replace"))


def _disk_choice(text: str) -> DiskChoice:
    """``vda=copy``, ``vda=share``, ``vda=drop``, ``vda=keep:/FILE``, ``vda=path:/FILE``."""
    target, equals, said = text.partition("=")
    way, _, path = said.partition(":")
    ways = {
        "copy": DiskWay.COPY,
        "path": DiskWay.COPY,
        "share": DiskWay.SHARE,
        "drop": DiskWay.DROP,
        "keep": DiskWay.KEEP,
    }
    if not target or not equals or way not in ways or (way in ("path", "keep")) != bool(path):
        raise UsageError(
            f"--disk {text!r} cannot be understood",
            hint="vda=copy, vda=share, vda=drop, vda=keep:/FILE or vda=path:/FILE",
        )
    return DiskChoice(target=target, way=ways[way], path=path)


def _told_clone(op: Operation) -> None:
    for lost in (op.result or {}).get("failed", []):
        error = lost["error"] or {}
        click.echo(f"{visible(lost['name'])} was not made: {error.get('message')}", err=True)
    for made in (op.result or {}).get("clones", []):
        took = max((disk["seconds"] for disk in made["disks"]), default=0.0)
        copied = sum(disk["bytes_copied"] for disk in made["disks"])
        methods = ", ".join(dict.fromkeys(disk["method"] for disk in made["disks"])) or "no disk"
        how = f"{size(copied)} on disk, copied in {seconds(took)}" if copied else methods
        click.echo(f"{visible(made['name'])} is there on {made['host']} ({how})")
        for disk in made["disks"] if copied else ():
            for rung in disk["why_not_faster"][:1]:
                click.echo(f"  {disk['target']}: no {rung['method']}: {rung['reason']}", err=True)
        if made["started"]:
            click.echo("  it runs")
        elif made["start_error"]:
            error = made["start_error"]
            click.echo(f"  it did not start: {visible(str(error['cause'] or error['message']))}")
    if source := (op.result or {}).get("source"):
        click.echo(f"  {_felt(source)}", err=True)


def _felt(source: Mapping[str, Any]) -> str:
    """What a running source felt of being cloned."""
    moment = "filesystems frozen" if source["frozen"] else "not frozen, as after a power cut"
    text = f"the source runs on; its disks were held within {seconds(source['pause_s'])} ({moment})"
    if source["pause_guest_s"] is not None:
        text += f"; the guest stood still for {seconds(source['pause_guest_s'])}"
    return text


def _told_move(op: Operation) -> None:
    result = op.result or {}
    click.echo(f"{visible(result['vm'])} is on {result['target']} ({result['mode']})")
    facts = []
    if result["seconds"] is not None:
        facts.append(f"took {seconds(result['seconds'])}")
    if result["pause_s"] is not None:
        facts.append(f"pause {seconds(result['pause_s'])}")
    if result["pause_guest_s"] is not None:
        facts.append(f"the guest felt {seconds(result['pause_guest_s'])}")
    if result["bytes_memory"]:
        facts.append(f"memory {size(result['bytes_memory'])}")
    if result["bytes_disk"]:
        facts.append(f"disks {size(result['bytes_disk'])}")
    if facts:
        click.echo("  " + ", ".join(facts))
    for path in result["left_on_source"]:
        click.echo(f"  {result['source']} still has {visible(path)}, unchanged", err=True)


def _uuid(text: str) -> str:
    import uuid

    if not text:
        return ""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise click.BadParameter(f"{text!r} is no UUID", param_hint="--uuid") from None


def _mac(text: str) -> str:
    import re

    if not re.fullmatch(r"(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}", text) or int(text[:2], 16) & 1:
        raise click.BadParameter(
            f"{text!r} is no MAC address of a single interface (52:54:00:12:34:56)",
            param_hint="--mac",
        )
    return text.lower()
