"""``twinship-virt-clone``: asks for a clone as virt-clone would make it, and tells how it went.

Exit codes are virt-clone's: 0 done, 1 failed (and undone), 2 an option that does not exist; and,
unlike virt-clone's, 130 when it was interrupted and undone.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

from twinship.model.errors import TwinshipError
from twinship.virtclone.host import record_for
from twinship.virtclone.options import Options, parse
from twinship.virtclone.talk import Talk


def main() -> None:
    """The entry point: every error becomes words on stderr and an exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    talk = Talk()
    try:
        options = parse(sys.argv[1:])
        talk = Talk(quiet=options.quiet, debug=options.debug)
        code = _run(options, talk)
    except KeyboardInterrupt:
        talk.error("interrupted")
        code = 130
    except TwinshipError as error:
        talk.failed(error)
        code = 1
    sys.exit(code)


def _run(options: Options, talk: Talk) -> int:
    from twinship.controller import Controller  # --help needs none of it
    from twinship.virtclone.run import Run

    with Controller(local=False, extra_hosts=(record_for(options.connect),)) as controller:
        return Run(controller, options, talk).run()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
