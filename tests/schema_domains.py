"""Definitions nobody wrote: drawn from libvirt's own RELAX NG schema, the same for the same seed.

``Grammar.load()`` reads the schema, ``a_domain(grammar, seed)`` walks it: every choice, option and
repetition is drawn and every value made up. A value that could be an identity (a path, a UUID, a
port, a MAC, a device) is the only one of its kind in its document, so that it can be found again.

How the draws are steered to what libvirt may take stands in :mod:`tests.schema_rules`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lxml import etree

from tests.schema_rules import (
    COMMON_RATE,
    COUNTS,
    ELSEWHERE,
    FIXED,
    LEFT_OUT,
    NAMED,
    NEVER,
    PLACES,
    RATES,
    SELDOM,
    TYPED,
    USUAL_RATE,
    Parts,
    agree,
)

SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
"""Of the package ``libvirt0`` (Debian), ``libvirt-libs`` (Fedora)."""

_RNG = "{http://relaxng.org/ns/structure/1.0}"
_XML_SPACE = " \t\r\n"


class Impossible(Exception):
    """Nothing valid comes of this pattern: the choice above takes another."""


class Grammar:
    """The definitions of a schema, with its includes, and the validator made of it."""

    def __init__(self, path: Path) -> None:
        self.defines: dict[str, list[etree._Element]] = {}
        self._read(path)
        self.validator = etree.RelaxNG(etree.parse(path))

    @classmethod
    def load(cls) -> Grammar | None:
        """libvirt's schema of a domain; None where it is not installed."""
        return cls(SCHEMA) if SCHEMA.exists() else None

    def problem(self, root: etree._Element) -> str:
        """Why a document is not valid; empty for one that is."""
        return "" if self.validator.validate(root) else str(self.validator.error_log.last_error)

    def _read(self, path: Path) -> None:
        root = etree.parse(path).getroot()
        for include in root.findall(f"{_RNG}include"):
            self._read(path.parent / include.get("href", ""))
        for define in root.findall(f"{_RNG}define"):
            name, content = define.get("name", ""), _patterns(define)
            known = self.defines.get(name, [])
            if define.get("combine") == "choice" and known:
                content = [_either(known, content)]
            self.defines[name] = content


def a_domain(grammar: Grammar, seed: int) -> etree._Element:
    """A valid ``<domain>``; raises AssertionError should the walk have made one that is not."""
    root = Walk(grammar, seed).domain()
    assert not grammar.problem(root), grammar.problem(root)
    return root


def _patterns(node: etree._Element) -> list[etree._Element]:
    """The patterns inside, without comments, and without the name of an element."""
    return [
        child
        for child in node
        if isinstance(child.tag, str) and child.tag not in (f"{_RNG}name", f"{_RNG}anyName")
    ]


def _upwards(node: etree._Element) -> Iterator[etree._Element]:
    yield node
    yield from node.iterancestors(f"{_RNG}element")


def _either(*alternatives: list[etree._Element]) -> etree._Element:
    choice = etree.Element(f"{_RNG}choice")
    for patterns in alternatives:
        group = etree.SubElement(choice, f"{_RNG}group")
        for pattern in patterns:
            group.append(etree.fromstring(etree.tostring(pattern)))
    return choice


class Walk:
    """One document being drawn."""

    def __init__(self, grammar: Grammar, seed: int) -> None:
        self._defines = grammar.defines
        self._draw = random.Random(seed)
        self._count = 0
        self._path: list[str] = []
        self._refs: list[str] = []
        self._kinds: dict[str, Callable[[etree._Element], Parts]] = {
            "element": self._element,
            "attribute": self._attribute,
            "ref": self._ref,
            "choice": self._choice,
            "optional": self._optional,
            "zeroOrMore": self._repeat,
            "oneOrMore": self._once_or_more,
            "value": self._one_value,
            "data": self._data,
            "text": self._data,
            "empty": lambda _node: Parts(),
            "group": lambda node: self._all(_patterns(node)),
            "interleave": lambda node: self._all(_patterns(node)),
        }

    def domain(self) -> etree._Element:
        """The document."""
        root = self._all(self._defines["domain"]).children[0]
        agree(root)
        return root

    def number(self) -> int:
        """Another one each time."""
        self._count += 1
        return self._count

    def one_of(self, values: Iterable[str]) -> str:
        """A value, drawn."""
        return self._draw.choice(sorted(values))

    def _all(self, nodes: Iterable[etree._Element]) -> Parts:
        parts = Parts()
        for node in nodes:
            kind = self._kinds.get(str(node.tag).removeprefix(_RNG))
            if kind is None:  # notAllowed, and what this schema has no use for
                raise Impossible(node.tag)
            parts.add(kind(node))
        return parts

    def _element(self, node: etree._Element) -> Parts:
        name = node.get("name")
        if name is None:
            raise Impossible("any element")
        namespace = next((str(up.get("ns")) for up in _upwards(node) if up.get("ns")), "")
        element = etree.Element(f"{{{namespace}}}{name}" if namespace else name)
        self._path.append(name)
        try:
            fixed = FIXED.get(self._place())
            inside = fixed(self) if fixed else self._all(_patterns(node))
        finally:
            self._path.pop()
        for key, value in inside.attributes.items():
            element.set(key, value)
        if inside.text:
            element.text = inside.text
        element.extend(inside.children)
        return Parts(children=[element])

    def _attribute(self, node: etree._Element) -> Parts:
        name = node.get("name")
        if name is None:
            raise Impossible("any attribute")
        self._path.append(f"@{name}")
        try:
            patterns = _patterns(node)
            value = self._all(patterns).text if patterns else self._data(node).text
        finally:
            self._path.pop()
        return Parts(attributes={name: value})

    def _ref(self, node: etree._Element) -> Parts:
        name = node.get("name", "")
        if name in ELSEWHERE:
            raise Impossible(name)
        if name in LEFT_OUT:
            return Parts()
        self._refs.append(name)
        try:
            return self._all(self._defines[name])
        finally:
            self._refs.pop()

    def _choice(self, node: etree._Element) -> Parts:
        alternatives = _patterns(node)
        self._draw.shuffle(alternatives)
        if self._draw.random() < COMMON_RATE:
            alternatives.sort(key=lambda node: node.get("name") in SELDOM)
        for alternative in alternatives:
            try:
                return self._all([alternative])
            except Impossible:
                continue
        raise Impossible("no alternative")

    def _optional(self, node: etree._Element) -> Parts:
        inside = _patterns(node)
        name = inside[0].get("name", "")
        if inside[0].tag == f"{_RNG}attribute":
            name = f"@{name}"
        rate = RATES.get(f"{self._path[-1]}/{name}", RATES.get(name, USUAL_RATE))
        if self._draw.random() >= rate:
            return Parts()
        try:
            return self._all(inside)
        except Impossible:
            return Parts()

    def _repeat(self, node: etree._Element) -> Parts:
        inside, parts = _patterns(node), Parts()
        name = inside[0].get("name", "")
        few = COUNTS.get(f"{self._path[-1]}/{name}", COUNTS.get(name, (0, 0, 0, 1, 2)))
        for _ in range(self._draw.choice(few)):
            try:
                parts.add(self._all(inside))
            except Impossible:
                break
        return parts

    def _once_or_more(self, node: etree._Element) -> Parts:
        inside = _patterns(node)
        return self._all(inside).add(self._repeat(node))

    def _one_value(self, node: etree._Element) -> Parts:
        value = (node.text or "").strip(_XML_SPACE)
        never = NEVER.get("/".join(self._path[-3:])) or NEVER.get(self._place(), ())
        if value in never:
            raise Impossible(value)
        return Parts(text=value)

    def _data(self, node: etree._Element) -> Parts:
        made = PLACES.get("/".join(self._path[-3:])) or PLACES.get(self._place())
        if made is None:
            made = next((NAMED[name] for name in reversed(self._refs) if name in NAMED), None)
        if made is None:
            made = TYPED.get(node.get("type", "text"))
            if node.find(f"{_RNG}param") is not None:
                made = None
        if made is None:
            raise Impossible(f"{self._place()}: {self._refs[-1]}")
        return Parts(text=made(self))

    def _place(self) -> str:
        return "/".join(self._path[-2:])
