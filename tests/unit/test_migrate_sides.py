"""What a host's answer means for a move."""

from __future__ import annotations

import pytest

from twinship.migrate.observe import side_of
from twinship.migrate.reconcile import Side
from twinship.model.vm import VmState


@pytest.mark.parametrize("was_paused", [False, True])
@pytest.mark.parametrize(
    ("state", "reason", "side"),
    [
        (VmState.RUNNING, "", Side.SERVING),
        (VmState.SHUT_OFF, "", Side.OFF),
        (VmState.PAUSED, "migration", Side.HELD),
        (VmState.PAUSED, "io_error", Side.SERVING),
        (VmState.PAUSED, "post_copy", Side.HALF),
        (VmState.PAUSED, "post_copy_failed", Side.HALF),
        (VmState.RUNNING, "post_copy", Side.HALF),
        (VmState.RUNNING, "post_copy_failed", Side.HALF),
        (VmState.SHUTTING_DOWN, "", Side.UNSEEN),
    ],
)
def test_a_state_is_a_side(state: VmState, reason: str, side: Side, was_paused: bool) -> None:
    """A VM that is ending this moment would else be taken for one that runs on both hosts."""
    assert side_of((state, reason, True), was_paused=was_paused) is side


def test_no_vm_is_absent() -> None:
    assert side_of(None, was_paused=False) is Side.ABSENT
