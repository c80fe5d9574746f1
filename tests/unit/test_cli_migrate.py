"""``twinship migrate`` of many, where no host is needed: words that do not go together, the end."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tests.builders import an_operation
from twinship.cli.migrating import _told_moves
from twinship.cli.outcome import exit_code, finish
from twinship.cli.root import root
from twinship.model.errors import UsageError
from twinship.model.operation import OperationState

MOVED = {
    "vm": "web",
    "source": "kvm01",
    "target": "kvm02",
    "mode": "live",
    "seconds": 1.5,
    "pause_s": 0.1,
    "pause_guest_s": None,
    "bytes_memory": 2**20,
    "bytes_disk": 0,
    "left_on_source": [],
}
LOST = {
    "vm": "db",
    "operation": "1abc",
    "error": {"code": "STALLED", "message": "no byte went over", "cause": None, "hint": "look"},
}
STAYS = {"vm": "golden", "host": "kvm01", "reason": "it is a template"}


def ended(failed: list[Any], left: list[Any] | None = None) -> Any:
    result = {"vms": [MOVED], "failed": failed, "left": left or []}
    return an_operation(kind="moves", state=OperationState.SUCCEEDED, result=result)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("--to kvm02", "which VM is to be moved", "--all --from HOST"),
        ("--all --to kvm02", "--all of which host", "--all --from HOST"),
        ("web --all --from kvm01 --to kvm02", "--all and 'web' exclude", "--all --from HOST"),
        ("web --from kvm01 --to kvm02", "--from is for --all", "is named kvm01/web"),
        ("--from kvm01 --to kvm02", "--from is for --all", "did you mean --all --from kvm01?"),
        ("--all --from kvm02 --to kvm02", "both name kvm02", "another host"),
        ("web db --to kvm02,kvm03", "one host at a time", "--to kvm02"),
    ],
)
def test_words_that_do_not_go_together_are_refused_with_a_hint(
    words: str, message: str, hint: str
) -> None:
    done = CliRunner().invoke(root, ["migrate", *words.split()], standalone_mode=False)

    assert isinstance(done.exception, UsageError)
    assert message in done.exception.message
    assert hint in done.exception.hint


@pytest.mark.parametrize(("failed", "code"), [([], 0), ([LOST], 7)])
def test_part_of_many_that_failed_is_told_by_the_exit_code(failed: list[Any], code: int) -> None:
    assert exit_code(ended(failed)) == code


def test_the_end_tells_what_arrived_what_did_not_and_what_stays(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with click.Context(root) as ctx, pytest.raises(click.exceptions.Exit) as left:
        finish(ctx, ended([LOST], [STAYS]), "table", _told_moves)

    assert left.value.exit_code == 7
    out, err = capsys.readouterr()
    assert "web is on kvm02 (live)" in out
    assert "db was not moved: no byte went over" in err
    assert "hint: look" in err
    assert "stays there" in err
    assert "golden stays on kvm01: it is a template" in err


def test_the_document_of_many_has_a_migration_result_for_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with click.Context(root) as ctx, pytest.raises(click.exceptions.Exit):
        finish(ctx, ended([LOST]), "json", _told_moves)

    result = json.loads(capsys.readouterr().out)["result"]
    assert result["vms"] == [MOVED]
    assert result["failed"] == [LOST]
