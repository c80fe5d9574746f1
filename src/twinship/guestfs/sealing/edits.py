"""Pure edits of a guest's text files: bytes in, bytes out.

Every edit is idempotent, leaves alone each line it has no reason to touch (line ends and bytes that
are no UTF-8 included), and never fails: a file it does not understand comes back as it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence

Edit = Callable[[bytes], bytes]

_SECTION = re.compile(rb"\s*\[([^\]]*)\]\s*$")
_NETPLAN_IDENTITY = re.compile(rb"(\s*)(?:macaddress|uuid)\s*:")
_LOOPBACK_NAME = b"127.0.1.1"
_LOCAL_NAMES = frozenset(
    (b"localhost", b"localhost.localdomain", b"localhost4", b"localhost4.localdomain4",
     b"localhost6", b"localhost6.localdomain6", b"ip6-localhost", b"ip6-loopback")
)  # fmt: skip


def without_shell_keys(*names: str) -> Edit:
    """Drops the assignments to these variables from a file of ``NAME=value`` lines."""
    wanted = "|".join(re.escape(name) for name in names).encode()
    pattern = re.compile(rb"[ \t]*(?:export[ \t]+)?(?:" + wanted + rb")[ \t]*=")
    return lambda data: _keeping(data, lambda line: pattern.match(line) is None)


def without_ini_keys(keys: Collection[tuple[str, str]]) -> Edit:
    """Drops keys, each a pair of section and key, from a key file; other lines stay.

    Names are compared without regard to case: NetworkManager writes lower case, people do not.
    """
    doomed = {(section.lower().encode(), key.lower().encode()) for section, key in keys}

    def edit(data: bytes) -> bytes:
        section = b""

        def keep(line: bytes) -> bool:
            nonlocal section
            if found := _SECTION.match(line):
                section = found[1].strip().lower()
                return True
            key, equals, _ = line.partition(b"=")
            return not equals or (section, key.strip().lower()) not in doomed

        return _keeping(data, keep)

    return edit


def without_ini_sections(keys: Collection[tuple[str, str]], sections: Collection[str]) -> Edit:
    """Drops keys as :func:`without_ini_keys` does, unless a section would then match everything.

    Of the ``sections``, one that only held dropped keys keeps its header and gets ``Name=e*``: all
    Ethernet cards, which a networkd file for one card's address was for.
    """
    drop = without_ini_keys(keys)
    names = {name.lower().encode() for name in sections}

    def edit(data: bytes) -> bytes:
        after = drop(data)
        if after == data:
            return data
        lines = lines_of(after)
        made = []
        for at, line in enumerate(lines):
            made.append(line)
            found = _SECTION.match(line)
            if found and found[1].strip().lower() in names and _is_empty(lines[at + 1 :]):
                made.append(b"Name=e*\n")
        return b"".join(made)

    return edit


def without_own_name(names: Collection[str]) -> Edit:
    """Drops the guest's own names from a hosts file, and lines that then name nobody.

    ``names`` are the guest's, full or short; names of the loopback itself always stay. A line for
    127.0.1.1, which Debian's installer writes for the guest's own name alone, goes whole.
    """
    own = {name.lower().encode("utf-8", "surrogateescape") for name in names if name}
    own |= {name.partition(b".")[0] for name in own}
    own -= _LOCAL_NAMES | {b""}

    def edit(data: bytes) -> bytes:
        return b"".join(_without_names(line, own) for line in lines_of(data))

    return edit


def without_lines(pattern: bytes) -> Edit:
    """Drops the lines in which the pattern matches at the start."""
    compiled = re.compile(pattern)
    return lambda data: _keeping(data, lambda line: compiled.match(line) is None)


def without_yaml_match(data: bytes) -> bytes:
    """Drops ``macaddress:`` and ``uuid:`` lines of a netplan file, and a ``match:`` left empty.

    Works on block-style lines, which is what installers, cloud-init and netplan itself write; a
    flow-style mapping (``match: {macaddress: ...}``) stays as it is. An empty ``match`` would
    apply to every interface, so it and the ``set-name`` that needs it go too.
    """
    lines = _keeping_lines(data, lambda line: _NETPLAN_IDENTITY.match(line) is None)
    if len(lines) == len(lines_of(data)):
        return data
    doomed: set[int] = set()
    for at, line in enumerate(lines):
        if line.strip() != b"match:":
            continue
        following = next((after for after in lines[at + 1 :] if after.strip()), b"")
        if _indent(following) > _indent(line):
            continue
        doomed.add(at)
        doomed |= {
            other
            for other in _siblings(lines, at)
            if lines[other].lstrip().startswith(b"set-name:")
        }
    return b"".join(line for at, line in enumerate(lines) if at not in doomed)


def without_json_keys(where: Sequence[str], names: Collection[str]) -> Edit:
    """Drops keys of the object that lies at this path in a JSON document."""

    def edit(data: bytes) -> bytes:
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return data
        found = document
        for key in where:
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, dict) or not found.keys() & set(names):
            return data
        for name in names:
            found.pop(name, None)
        return json.dumps(document, separators=(",", ":")).encode()

    return edit


def replaced(pattern: bytes, replacement: bytes) -> Edit:
    """Replaces each match within a line; ``replacement`` may name groups (``\\1``).

    Line ends are not part of what is matched. Only idempotent if the pattern is.
    """
    compiled = re.compile(pattern)

    def line(text: bytes) -> bytes:
        body = text.rstrip(b"\r\n")
        return compiled.sub(replacement, body) + text[len(body) :]

    return lambda data: b"".join(line(text) for text in lines_of(data))


def lines_of(data: bytes) -> list[bytes]:
    """Splits at newlines alone (``splitlines`` also splits at others), newlines kept."""
    lines = data.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def _keeping_lines(data: bytes, keep: Callable[[bytes], bool]) -> list[bytes]:
    return [line for line in lines_of(data) if keep(line)]


def _keeping(data: bytes, keep: Callable[[bytes], bool]) -> bytes:
    return b"".join(_keeping_lines(data, keep))


def _without_names(line: bytes, own: Collection[bytes]) -> bytes:
    text, mark, comment = line.partition(b"#")
    words = text.split()
    if len(words) < 2:
        return line
    if words[0] == _LOOPBACK_NAME:
        return b""
    kept = [word for word in words[1:] if word.lower() not in own]
    if len(kept) == len(words) - 1:
        return line
    if not kept:
        return b""
    end = line[len(line.rstrip(b"\r\n")) :]
    tail = b" " + mark + comment.rstrip(b"\r\n") if mark else b""
    return words[0] + b"\t" + b" ".join(kept) + tail + end


def _is_empty(following: list[bytes]) -> bool:
    """Whether a section has no key before the next one begins."""
    for line in following:
        if _SECTION.match(line):
            return True
        if line.strip() and not line.lstrip().startswith((b"#", b";")):
            return False
    return True


def _indent(line: bytes) -> int:
    return len(line) - len(line.lstrip(b" "))


def _siblings(lines: list[bytes], at: int) -> list[int]:
    """Lines of the same mapping as line ``at``: as far indented, nothing less between."""
    own, found = _indent(lines[at]), []
    for step in (-1, 1):
        other = at + step
        while 0 <= other < len(lines):
            if lines[other].strip():
                if _indent(lines[other]) < own:
                    break
                if _indent(lines[other]) == own:
                    found.append(other)
            other += step
    return found
