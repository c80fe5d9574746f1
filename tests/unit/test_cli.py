"""The command line where no host is needed: words, documents and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tests.builders import a_move_of, a_vm, an_operation, move_request, new_ids
from twinship.cli.outcome import exit_code, finish
from twinship.cli.render import print_document, print_error, print_plan, visible
from twinship.cli.root import COMMANDS, _wanted_output, root
from twinship.clone.checks import TABLE as CLONE
from twinship.lifecycle.plan import DELETE, START
from twinship.migrate.checks import TABLE as MIGRATE
from twinship.migrate.plan import plan_migrate
from twinship.model import errors
from twinship.model.errors import TwinshipError
from twinship.model.operation import Operation, OperationState

State = OperationState
CODES = {
    *(row.code for row in CLONE.rows),
    *(row.code for row in MIGRATE.rows),
    *(row.code for row in START.rows),
    *(row.code for row in DELETE.rows),
}


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(root, list(arguments))


def twinship(*arguments: str, state: Path) -> subprocess.CompletedProcess[str]:
    """The real command, with a state directory of its own."""
    return subprocess.run(
        [sys.executable, "-m", "twinship", *arguments],
        env={**os.environ, "TWINSHIP_STATE_DIR": str(state)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# Help and usage


def test_help_lists_every_command() -> None:
    shown = invoke("--help")

    assert shown.exit_code == 0
    for name, (_, text) in COMMANDS.items():
        assert name in shown.output
        assert text.split(",")[0] in shown.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    shown = invoke(name, "--help")

    assert shown.exit_code == 0
    assert "Usage:" in shown.output


@pytest.mark.parametrize(
    ("typed", "meant"), [("migrat", "migrate"), ("opration", "operation"), ("clon", "clone")]
)
def test_a_mistyped_command_is_answered_with_the_nearest(typed: str, meant: str) -> None:
    shown = invoke(typed)

    assert shown.exit_code == 2
    assert f"Did you mean {meant}" in shown.output


def test_a_command_unlike_any_other_is_simply_unknown() -> None:
    shown = invoke("xyzzy")

    assert shown.exit_code == 2
    assert "Did you mean" not in shown.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("clone", "web", "--bandwidth", "fast"),
        ("clone", "web", "--bandwidth", "0"),
        ("clone", "web", "--mac", "52:54:00"),
        ("clone", "web", "--mac", "53:54:00:00:00:01"),
        ("clone", "web", "--uuid", "not-one"),
        ("clone", "web", "--mode", "linked-ish"),
        ("clone",),
        ("migrate", "web"),
        ("migrate", "web", "--to", "kvm02", "--max-pause", "soon"),
        ("vm", "list", "--state", "asleep"),
        ("vm", "list", "-o", "xml"),
        ("operation", "list", "--limit", "0"),
    ],
    ids=" ".join,
)
def test_a_wrong_request_is_refused_before_anything_is_opened(arguments: tuple[str, ...]) -> None:
    assert invoke(*arguments).exit_code == 2


# Explain


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_check_can_be_explained(code: str) -> None:
    shown = invoke("explain", code.lower())

    assert shown.exit_code == 0
    assert "A check of" in shown.output
    assert len(shown.output.splitlines()[0]) > 20


def test_all_codes_are_listed() -> None:
    listed = {line.split()[0] for line in invoke("explain").output.splitlines()}

    assert CODES | {"BUSY", "HOST_UNREACHABLE", "NEEDS_ATTENTION"} <= listed


def test_an_unknown_code_is_answered_with_near_ones() -> None:
    shown = invoke("explain", "NAME_TAKE")

    assert isinstance(shown.exception, errors.NotFound)
    assert "NAME_TAKEN" in shown.exception.hint


# How operations end


def stored_error(kind: str) -> dict[str, str]:
    return {"kind": kind, "code": "X", "message": "it broke", "cause": "why", "hint": "do this"}


@pytest.mark.parametrize(
    ("op", "code"),
    [
        (an_operation(state=State.SUCCEEDED), 0),
        (an_operation(state=State.SUCCEEDED, result={"clones": [{"start_error": None}]}), 0),
        (an_operation(state=State.SUCCEEDED, result={"clones": [{"start_error": {}}, {}]}), 0),
        (an_operation(state=State.SUCCEEDED, result={"clones": [{"start_error": {"code": 1}}]}), 7),
        (an_operation(state=State.QUEUED), 0),
        (an_operation(state=State.RUNNING), 8),
        (an_operation(state=State.WAITING), 8),
        (an_operation(state=State.CANCELLING), 8),
        (an_operation(state=State.CANCELLED), 130),
        (an_operation(state=State.NEEDS_ATTENTION), 9),
        (an_operation(state=State.FAILED), 1),
        (an_operation(state=State.FAILED, error=stored_error("TwinshipError")), 1),
        (an_operation(state=State.FAILED, error=stored_error("HypervisorError")), 1),
        (an_operation(state=State.FAILED, error=stored_error("CheckBlocked")), 5),
        (an_operation(state=State.FAILED, error=stored_error("Conflict")), 6),
        (an_operation(state=State.FAILED, error=stored_error("NotAllowed")), 4),
        (an_operation(state=State.FAILED, error=stored_error("StillRunning")), 8),
        (an_operation(state=State.FAILED, error=stored_error("Gone")), 3),
        (an_operation(state=State.FAILED, error=stored_error("OfALaterVersion")), 1),
    ],
    ids=lambda value: value if isinstance(value, int) else value.state.value,
)
def test_every_end_has_its_exit_code(op: Operation, code: int) -> None:
    assert exit_code(op) == code


def test_no_state_is_without_an_exit_code() -> None:
    assert {exit_code(an_operation(state=state)) for state in State} == {0, 1, 8, 9, 130}


def ended(op: Operation, output: str = "table") -> Any:
    @click.command()
    @click.pass_context
    def command(ctx: click.Context) -> None:
        finish(ctx, op, output, lambda done: click.echo(f"told of {done.id}"))

    return CliRunner().invoke(command)


def test_a_failure_is_told_with_cause_hint_and_what_is_left() -> None:
    op = an_operation(
        state=State.NEEDS_ATTENTION,
        error=stored_error("TwinshipError"),
        waiting_for="undoing failed",
        leftovers=("volume /a on kvm01",),
    )
    shown = ended(op)

    assert shown.exit_code == 9
    for words in ("error: it broke", "why", "do this", "X", "undoing failed", "volume /a on kvm01"):
        assert words in shown.output


def test_what_is_still_waiting_is_told_with_where_to_follow_it() -> None:
    shown = ended(an_operation(state=State.WAITING, waiting_for="no route", leftovers=("a",)))

    assert shown.exit_code == 8
    assert "no route" in shown.output
    assert "twinship operation watch op-1" in shown.output


def test_success_is_told_by_the_command_itself() -> None:
    assert ended(an_operation(state=State.SUCCEEDED)).stdout == "told of op-1\n"


@pytest.mark.parametrize("state", State)
def test_under_json_every_end_is_one_document(state: OperationState) -> None:
    shown = ended(an_operation(state=state, error=stored_error("Conflict")), "json")

    assert json.loads(shown.stdout)["state"] == state.value
    assert shown.exit_code == exit_code(an_operation(state=state, error=stored_error("Conflict")))


# Printing


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["vm", "list"], "table"),
        (["vm", "list", "-o", "json"], "json"),
        (["-o", "yaml", "vm"], "yaml"),
        (["-ojson"], "json"),
        (["--output=jsonl"], "jsonl"),
        (["--output", "json"], "json"),
        (["-o"], "table"),
    ],
)
def test_errors_know_the_wanted_output_before_the_line_is_parsed(
    arguments: list[str], output: str
) -> None:
    assert _wanted_output(arguments) == output


def test_no_name_can_play_with_the_terminal() -> None:
    assert visible("a\x1b[31mb\nc\u202ed") == "a\\x1b[31mb\\nc\\u202ed"
    assert visible("虚拟机 é") == "虚拟机 é"


def test_an_error_in_words_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(TwinshipError("no\x1b", code="X", cause="because"), "table")
    shown = capsys.readouterr()

    assert shown.out == ""
    assert shown.err == "error: no\\x1b\n  cause: because\n  code:  X\n"


def test_a_list_is_a_line_an_item_under_jsonl(capsys: pytest.CaptureFixture[str]) -> None:
    print_document({"items": [{"a": 1}, {"a": "虚"}], "next": None}, "jsonl")

    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1}, {"a": "虚"}]


@pytest.mark.parametrize("output", ["table", "wide", "json", "yaml", "name"])
def test_a_plan_is_printed_in_every_form_and_shows_no_secret(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    vm = a_vm().with_disk().with_device("<graphics type='vnc' passwd='hunter2'/>")
    print_plan(plan_migrate(a_move_of(vm.running()), move_request(), new_ids()), output)
    shown = capsys.readouterr().out

    assert "hunter2" not in shown
    assert "move" in shown


# The real thing


def test_help_imports_neither_the_database_nor_libvirt(tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "twinship", "--help"],
        env={**os.environ, "TWINSHIP_STATE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    imported = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}

    assert "Commands:" in shown.stdout
    assert "click" in imported
    assert not imported & {"sqlalchemy", "libvirt", "alembic", "lxml.etree", "rich", "yaml"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "exit_", "code"),
    [
        (("host", "show", "nowhere"), 3, "HOST_NOT_FOUND"),
        (("host", "add", "../kvm01", "test:///default"), 2, "HOST_NAME_INVALID"),
        (("host", "add", "a b", "test:///default"), 2, "HOST_NAME_INVALID"),
        (("host", "add", "kvm01\n", "test:///default"), 2, "HOST_NAME_INVALID"),
        (("host", "add", "kvm01", "test:///default", "--label", "x"), 2, "USAGE"),
        (("operation", "show", "no-such-id"), 3, "OPERATION_NOT_FOUND"),
        (("clone", "web", "--bandwidth", "fast"), 2, "USAGE"),
        (("clon", "web"), 2, "USAGE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_under_json_every_error_is_one_document_with_its_exit_code(
    arguments: tuple[str, ...], exit_: int, code: str, tmp_path: Path
) -> None:
    shown = twinship(*arguments, "-o", "json", state=tmp_path)

    assert json.loads(shown.stdout)["error"]["code"] == code
    assert shown.stderr == ""
    assert shown.returncode == exit_


def test_an_error_in_words_leaves_stdout_empty(tmp_path: Path) -> None:
    shown = twinship("operation", "show", "no-such-id", state=tmp_path)

    assert shown.stdout == ""
    assert shown.stderr.startswith("error: no operation has the id 'no-such-id'\n")
    assert "OPERATION_NOT_FOUND" in shown.stderr
    assert shown.returncode == 3


def test_a_damaged_database_is_an_error_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "twinship.db").write_bytes(b"no database" * 1000)
    shown = twinship("operation", "list", "-o", "json", state=tmp_path)

    assert json.loads(shown.stdout)["error"]["code"] == "DATABASE"
    assert shown.returncode == 1


def test_a_host_that_does_not_answer_is_added_all_the_same_but_not_twice(tmp_path: Path) -> None:
    uri = f"qemu+unix:///system?socket={tmp_path}/nobody-listens"
    first = twinship("host", "add", "kvm01", uri, "--label", "rack=7", "-o", "json", state=tmp_path)
    second = twinship("host", "add", "kvm01", uri, "-o", "json", state=tmp_path)

    added = json.loads(first.stdout)
    assert (added["name"], added["reachable"], added["labels"]) == ("kvm01", False, {"rack": "7"})
    assert first.returncode == 0
    assert json.loads(second.stdout)["error"]["code"] == "HOST_EXISTS"
    assert second.returncode == 6


@pytest.mark.parametrize(
    "option", ["--only=", "--operations= ", "--except=", "--also=logs,,tmp-files", "--only=-"]
)
@pytest.mark.parametrize("command", [("seal", "web"), ("template", "create", "t", "--from", "web")])
def test_a_list_of_operations_that_names_none_is_refused(
    command: tuple[str, ...], option: str
) -> None:
    refused = invoke(*command, option).exception
    assert isinstance(refused, errors.UsageError)
    assert "names no operation" in refused.message


def chosen(*words: str, own: Path | None = None) -> set[str]:
    listed = invoke("seal", "--list", *words, *(["--own", str(own)] if own else []), "-o", "json")
    assert listed.exit_code == 0, listed.output
    return {row["name"] for row in json.loads(listed.stdout)["items"] if row["chosen"]}


def test_operations_are_chosen_in_virt_syspreps_words_too(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text("[agent]\ndelete = ['/etc/agent.id']\n")
    usual = chosen()
    more = chosen("--operations", "defaults,-logs,user-accounts")
    assert more == (usual | {"user-accounts"}) - {"logs"}
    assert chosen("--operations", "-logs") == chosen("--except", "logs") == usual - {"logs"}
    assert chosen("--only", "logs") == {"logs"}
    assert chosen("--only", "all") > usual
    assert chosen(own=own) == usual | {"agent"}
