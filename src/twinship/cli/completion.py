"""Completion of VM and host names in a shell; silent when nothing can be asked."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from twinship.cli.session import open_controller
from twinship.model.errors import TwinshipError


def complete_vm(ctx: click.Context, _param: click.Parameter, typed: str) -> list[CompletionItem]:
    """Names of VMs; ``HOST/NAME`` once a slash is typed, or where a name is on several hosts."""
    try:
        with open_controller(lab=_lab(ctx)) as controller:
            vms = [vm for answer in controller.vm_list() for vm in answer.vms]
    except TwinshipError:
        return []
    names = [vm.name for vm in vms]
    words = {vm.label if "/" in typed or names.count(vm.name) > 1 else vm.name for vm in vms}
    return [CompletionItem(word) for word in sorted(words) if word.startswith(typed)]


def complete_host(ctx: click.Context, _param: click.Parameter, typed: str) -> list[CompletionItem]:
    """Names of hosts; none of them is connected to."""
    try:
        with open_controller(lab=_lab(ctx)) as controller:
            names = [record.name for record in controller.inventory.records()]
    except TwinshipError:
        return []
    return [CompletionItem(name) for name in sorted(names) if name.startswith(typed)]


def _lab(ctx: click.Context) -> bool:
    return bool(ctx.find_root().params.get("lab"))
