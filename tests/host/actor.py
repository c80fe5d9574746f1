"""A process that runs a verb and, at a moment it was told, does something to itself.

``actor.py STATE_DIR ORDER``: the order is JSON with verb, request, deed (``kill``, ``interrupt``,
``terminate``, ``stop``) and the moment: ``phase`` (the beginning of its title), or ``write`` (kind
and phase of a line of the journal) with ``when`` (``before`` or ``after`` it is committed), of
several such lines the ``nth``. Exits like the command; with 99 when the moment never came.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from twinship.cli.outcome import exit_code
from twinship.config import Config
from twinship.controller import Controller
from twinship.model.operation import Operation
from twinship.model.request import (
    CloneMode,
    CloneRequest,
    MigrateMode,
    MigrateRequest,
    SealRequest,
    StateWay,
    TemplateRequest,
)
from twinship.operations.job import Watch
from twinship.store.database import Database
from twinship.store.operations import OperationStore

DEEDS = {
    "kill": signal.SIGKILL,
    "interrupt": signal.SIGINT,
    "terminate": signal.SIGTERM,
    "stop": signal.SIGSTOP,
}
NEVER = 99


class Actor:
    """Does the deed once."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self.acted = False

    def act(self) -> None:
        if not self.acted:
            self.acted = True
            os.kill(os.getpid(), DEEDS[self._order["deed"]])

    def at_phase(self, operation: Operation) -> None:
        """As a phase begins."""
        if operation.progress.phase.startswith(self._order["phase"]):
            self.act()

    def at_write(self) -> None:
        """Puts itself between the journal and the database."""
        wanted, before = tuple(self._order["write"]), self._order["when"] == "before"
        append: Callable[..., None] = OperationStore._append
        write = Database.write
        written: list[bool] = []
        left = [int(self._order.get("nth", 1))]

        def watched_append(
            connection: sa.Connection, operation_id: str, kind: str, phase: str, *rest: Any
        ) -> None:
            append(connection, operation_id, kind, phase, *rest)
            if (kind, phase) == wanted:
                left[0] -= 1
                if left[0]:
                    return
                if before:
                    self.act()
                written.append(True)

        @contextmanager
        def watched_write(database: Database) -> Iterator[sa.Connection]:
            with write(database) as connection:
                yield connection
            if written and not before:
                self.act()

        for kind, name, replacement in (
            (OperationStore, "_append", staticmethod(watched_append)),
            (Database, "write", watched_write),
        ):
            setattr(kind, name, replacement)


def main() -> int:
    order = json.loads(sys.argv[2])
    lease_s = float(order.get("lease_s", 20))
    config = Config(state=Path(sys.argv[1]), stall_s=6, settle_patience_s=20, lease_s=lease_s)
    actor = Actor(order)
    watch: Watch | None = None
    if "phase" in order:
        watch = actor.at_phase
    else:
        actor.at_write()

    def interrupted(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGINT, interrupted)  # ignored in what a shell starts in the background
    request = order["request"]
    with Controller(config, local=False) as controller:
        if order["verb"] == "flatten":
            operation = controller.vm_flatten(request["vm"], watch=watch)
        elif order["verb"] == "clones":
            names = request.pop("names")
            operation = controller.clone_many(CloneRequest(**request), names, watch=watch)
        elif order["verb"] == "moves":
            names = request.pop("vms")
            moved = controller.migrate_many(MigrateRequest(vm="", **request), names, watch=watch)
            assert moved is not None
            operation = moved
        elif order["verb"] == "clone":
            for field, kind in (("tpm_way", StateWay), ("mode", CloneMode)):
                if field in request:
                    request[field] = kind(request[field])
            operation = controller.clone(CloneRequest(**request), watch=watch)
        elif order["verb"] == "seal":
            operation = controller.seal(SealRequest(vms=tuple(request["vms"])), watch=watch)
        elif order["verb"] == "template":
            operation = controller.template_create(TemplateRequest(**request), watch=watch)
        else:
            request["mode"] = MigrateMode(request.get("mode", "auto"))
            operation = controller.migrate(MigrateRequest(**request), watch=watch)
    return exit_code(operation) if actor.acted else NEVER


if __name__ == "__main__":
    sys.exit(main())
