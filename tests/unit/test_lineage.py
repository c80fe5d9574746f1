"""What a definition tells of a clone's origin, and what is read back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twinship.domxml.lineage import Base, Kin, family, lineage_of, with_bases
from twinship.domxml.rewrite import with_mark

PLAIN = "<domain><name>a</name><uuid>u</uuid></domain>"
CLONE = with_mark(PLAIN, "clone", {"of": "uuid-of-web", "name": "web", "mode": "full"})
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)
clean = words.filter(lambda text: "\ufffe" not in text and "\uffff" not in text)
bases = st.lists(
    st.builds(
        Base,
        path=clean,
        length_bytes=st.integers(0, 2**60),
        changed=clean,
        header=clean,
    ),
    max_size=4,
)


@given(bases)
def test_what_is_written_is_read_back(written: list[Base]) -> None:
    read = lineage_of(with_bases(CLONE, written))
    assert read is not None
    assert (read.of, read.name) == ("uuid-of-web", "web")
    assert list(read.bases) == written
    assert read.mode == ("linked" if written else "full")


@given(bases, bases)
def test_new_bases_take_the_place_of_old_ones(old: list[Base], new: list[Base]) -> None:
    assert with_bases(with_bases(CLONE, old), new) == with_bases(CLONE, new)


def test_a_vm_that_is_no_clone_of_ours_has_no_lineage() -> None:
    assert lineage_of(PLAIN) is None
    assert with_bases(PLAIN, []) == PLAIN


def test_a_mark_somebody_has_played_with_is_read_all_the_same() -> None:
    spoilt = with_bases(CLONE, [Base(path="/a", length_bytes=1, changed="", header="")])
    read = lineage_of(spoilt.replace('length="1"', 'length="many"'))
    assert read is not None
    assert read.bases[0].length_bytes == -1


def a_child(name: str, of: str) -> tuple[str, str, str]:
    """A linked clone as a host's definitions have it; its UUID is its name."""
    text = with_mark(PLAIN, "clone", {"of": of, "name": of, "mode": "linked"})
    base = Base(path=f"/{of}.qcow2", length_bytes=1, changed="1", header="a")
    return name, name, with_bases(text, [base])


def test_a_family_is_the_whole_tree_whoever_is_asked() -> None:
    known = [
        ("web", "web", PLAIN),
        a_child("b", "web"),
        a_child("a-child", "a"),
        a_child("a", "web"),
        a_child("other", "gone"),
        ("alone", "alone", PLAIN),
    ]
    below = Kin(name="a", uuid="a", children=(Kin(name="a-child", uuid="a-child"),))
    tree = Kin(name="web", uuid="web", children=(below, Kin(name="b", uuid="b")))

    assert {family(known, uuid) for uuid in ("web", "a", "a-child", "b")} == {tree}
    assert family(known, "alone") == Kin(name="alone", uuid="alone")
    assert family(known, "other") == Kin(name="other", uuid="other")


def test_a_circle_of_marks_ends() -> None:
    known = [a_child("a", "b"), a_child("b", "a")]
    assert family(known, "a").children
