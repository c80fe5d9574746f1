"""Names, bound facts, and the table that asks every check."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.builders import a_clone_of, a_vm, clone_request, new_ids
from twinship.clone.plan import plan_clone
from twinship.model.plan import Severity
from twinship.planning import names
from twinship.planning.binding import changed, digest
from twinship.planning.checks import CheckTable, Problem

any_name = st.text(max_size=40)
plain_name = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True)


@pytest.mark.parametrize(
    "name", ["web", "db-1", "Web 2", "虚拟机", "a" * 200, "x.y", "_", "web'&<>"]
)
def test_ordinary_names_are_allowed(name: str) -> None:
    assert names.problem(name) == ""


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        ("   ", "empty"),
        (" web", "space"),
        ("web ", "space"),
        ("a/b", "slash"),
        ("..", "dot"),
        (".hidden", "dot"),
        ("-rf", "dash"),
        ("a\nb", "control"),
        ("a\x1b[31m", "control"),
        ("a\u202eb", "control"),
        ("a\u2028b", "control"),
        ("a\ud800", "control"),
        ("a\uffff", "XML"),
        ("é" * 101, "longer"),
    ],
)
def test_names_that_would_do_harm_are_refused_with_the_reason(name: str, why: str) -> None:
    assert why in names.problem(name)


@given(any_name)
def test_any_name_that_is_allowed_can_be_planned(name: str) -> None:
    assume(not names.problem(name))

    plan = plan_clone(a_clone_of(a_vm().with_disk()), clone_request(name=name), new_ids(0))

    assert plan.domain_xml


@pytest.mark.parametrize(
    ("source", "taken", "free"),
    [
        ("web", set(), "web-clone"),
        ("web", {"web-clone"}, "web-clone-2"),
        ("web", {"web-clone", "web-clone-2"}, "web-clone-3"),
        ("web", {"web-clone", "web-clone-3"}, "web-clone-2"),
        ("web-clone", {"web-clone"}, "web-clone-2"),
        ("web-clone-9", {"web-clone-9"}, "web-clone-10"),
        ("web-clone-9", {"web-clone-10"}, "web-clone-11"),
        ("web-9", set(), "web-9-clone"),
        ("web1", set(), "web1-clone"),
        ("web-clone-x", set(), "web-clone-x-clone"),
    ],
)
def test_a_clones_name_counts_on(source: str, taken: set[str], free: str) -> None:
    assert names.free_clone_name(source, taken) == free


@given(source=any_name, extra=st.sets(any_name, max_size=5), crowd=st.integers(0, 12))
def test_a_free_name_is_never_taken_and_valid_when_the_source_is(
    source: str, extra: set[str], crowd: int
) -> None:
    taken = {source, *extra}
    for _ in range(crowd):
        taken.add(names.free_clone_name(source, taken))

    free = names.free_clone_name(source, taken)

    assert free not in taken
    if not names.problem(source):
        assert names.problem(free) == ""


@given(vm=plain_name, target=st.sampled_from(["vda", "vdb"]), crowd=st.integers(0, 5))
def test_a_file_name_is_never_taken(vm: str, target: str, crowd: int) -> None:
    taken: set[str] = set()
    for _ in range(crowd + 1):
        name = names.file_name(vm, target, ".qcow2", taken, alone=True)
        assert name not in taken
        assert "/" not in name
        taken.add(name)


def test_files_are_named_for_the_vm_and_with_several_for_the_disk() -> None:
    assert names.file_name("web", "vda", ".qcow2", (), alone=True) == "web.qcow2"
    assert names.file_name("web", "vdb", ".img", (), alone=False) == "web-vdb.img"
    assert names.file_name("web", "vda", ".img", {"web.img"}, alone=True) == "web-2.img"


# Bound facts


def test_what_changed_is_said_in_sentences_in_a_steady_order() -> None:
    before = {"the state of web": "shut off", "disk vda": "/a", "the job": "none"}
    after = {"the state of web": "running", "disk vda": "/a", "disk vdb": "/b"}

    assert changed(before, after) == (
        "disk vdb is new: /b",
        "the job is gone (was none)",
        "the state of web was shut off, is running",
    )


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
def test_nothing_has_changed_between_equal_facts(facts: dict[str, str]) -> None:
    assert changed(facts, dict(facts)) == ()


@given(st.text(max_size=30), st.text(max_size=30))
def test_digests_are_equal_for_equal_texts_only(one: str, other: str) -> None:
    assert (digest(one) == digest(other)) == (one == other)


# The table


def test_every_check_is_asked_and_the_worst_comes_first() -> None:
    table: CheckTable[str] = CheckTable()
    asked: list[str] = []

    @table.row("SMALL", Severity.INFO)
    def small(facts: str) -> Problem:
        asked.append(facts)
        return Problem("by the way")

    @table.row("FINE")
    def fine(facts: str) -> None:
        asked.append(facts)

    @table.row("BAD")
    def bad(facts: str) -> Iterator[Problem]:
        asked.append(facts)
        yield Problem("first", hint="cure", object="a")
        yield Problem("second, but it cannot be seen", severity=Severity.UNKNOWN)
        yield Problem("third")

    @table.row("ODD", Severity.WARN)
    def odd(facts: str) -> list[Problem]:
        asked.append(facts)
        return [Problem("careful")]

    findings = table.run("facts")

    assert asked == ["facts"] * 4
    assert [(f.code, f.severity.value, f.message) for f in findings] == [
        ("BAD", "block", "first"),
        ("BAD", "block", "third"),
        ("ODD", "warn", "careful"),
        ("BAD", "unknown", "second, but it cannot be seen"),
        ("SMALL", "info", "by the way"),
    ]
    assert (findings[0].hint, findings[0].object) == ("cure", "a")


def test_two_checks_cannot_share_a_code() -> None:
    table: CheckTable[str] = CheckTable()
    table.row("SAME")(lambda _facts: None)

    with pytest.raises(ValueError, match="SAME"):
        table.row("SAME")(lambda _facts: None)


def test_a_checks_docstring_is_its_explanation() -> None:
    table: CheckTable[str] = CheckTable()

    @table.row("DOCUMENTED")
    def documented(_facts: str) -> None:
        """What it is about.

        And where the rule comes from.
        """

    assert table.rows[0].explanation == "What it is about.\n\nAnd where the rule comes from."
