"""A process that runs a verb and, as a phase begins, does something to itself.

``actor.py STATE_DIR ORDER``: the order is JSON with phase (the beginning of its title), deed
(``kill``, ``interrupt``, ``terminate``, ``stop``), verb and request. Exits like the command.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from twinship.cli.outcome import exit_code
from twinship.config import Config
from twinship.controller import Controller
from twinship.model.operation import Operation
from twinship.model.request import CloneRequest, MigrateMode, MigrateRequest

DEEDS = {
    "kill": signal.SIGKILL,
    "interrupt": signal.SIGINT,
    "terminate": signal.SIGTERM,
    "stop": signal.SIGSTOP,
}


def main() -> int:
    order = json.loads(sys.argv[2])
    config = Config(state=Path(sys.argv[1]), stall_s=6, settle_patience_s=20)
    done: list[str] = []

    def watch(operation: Operation) -> None:
        phase = operation.progress.phase
        if not done and phase.startswith(order["phase"]):
            if order.get("bytes") and operation.progress.bytes_done < order["bytes"]:
                return
            done.append(phase)
            os.kill(os.getpid(), DEEDS[order["deed"]])

    def interrupted(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    request = order["request"]
    with Controller(config, local=False) as controller:
        if order["verb"] == "clone":
            operation = controller.clone(CloneRequest(**request), watch=watch)
        else:
            request["mode"] = MigrateMode(request.get("mode", "auto"))
            operation = controller.migrate(MigrateRequest(**request), watch=watch)
    if not done:
        sys.stderr.write(f"the phase {order['phase']!r} was never seen\n")
        return 99
    return exit_code(operation)


if __name__ == "__main__":
    sys.exit(main())
