r"""The user's own operations, from TOML files.

::

    [backup-agent]                       # the operation's name
    title = "identity of our backup agent"
    default = true                       # that is what it is without this line, too
    delete = ["/etc/backup/agent.id", "/var/lib/backup/*.cache"]
    truncate = ["/var/lib/backup/journal"]
    edit = [{path = "/etc/backup/agent.conf", match = "^name=.*", replace = "name=unset"}]
    upload = [{from = "agent.conf", to = "/etc/backup/default.conf", mode = "0640"}]
    run = [["/usr/bin/backup-agent", "--reset"]]

``edit`` replaces each match of a Python regular expression within a line (``\1`` stands for a
group). ``from`` is relative to the file's own directory. ``run`` needs the appliance: it starts a
program of the guest in the guest, without network.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from twinship.guestfs.files import READ_LIMIT_BYTES
from twinship.guestfs.sealing.edits import replaced
from twinship.guestfs.sealing.operation import Act, EditFiles, Operation, Remove, Run, Truncate
from twinship.guestfs.sealing.operation import Write as WriteFile
from twinship.guestfs.sealing.table import EVERY, TABLE
from twinship.model.errors import UsageError

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_MODE = re.compile(r"0?[0-7]{3}")
_KEYS = frozenset(
    ("title", "why", "default", "delete", "truncate", "edit", "upload", "run")
)  # fmt: skip


def load_own(place: Path) -> tuple[Operation, ...]:
    """The operations of a TOML file, or of all ``*.toml`` in a directory, by name of file.

    Raises :class:`UsageError` (``OWN_OPERATION``) for what cannot be used, before anything is done.
    """
    files = sorted(place.glob("*.toml")) if place.is_dir() else [place]
    if not files:
        raise _bad(place, "there is no *.toml in this directory")
    taken = {EVERY, *(row.name for row in TABLE)}
    rows: list[Operation] = []
    for file in files:
        for name, body in _tables(file).items():
            if name in taken:
                raise _bad(file, f"there is an operation {name} already")
            taken.add(name)
            rows.append(_operation(file, name, body))
    return tuple(rows)


def needs_appliance(operations: Sequence[Operation]) -> bool:
    """Whether one of the operations runs something in the guest."""
    return any(isinstance(act, Run) for row in operations for act in row.acts)


def _tables(file: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _bad(file, str(error)) from None


def _operation(file: Path, name: str, body: Any) -> Operation:
    if not _NAME.fullmatch(name):
        raise _bad(file, f"{name!r} is no name: small letters, digits and dashes")
    if not isinstance(body, dict):
        raise _bad(file, f"{name} is no table: write [{name}]")
    if unknown := sorted(body.keys() - _KEYS):
        raise _bad(file, f"{name}: unknown: {', '.join(unknown)} (known: {', '.join(_KEYS)})")
    default = body.get("default", True)
    if not isinstance(default, bool):
        raise _bad(file, f"{name}: default is true or false")
    acts: list[Act] = []
    if delete := _paths(file, name, body, "delete"):
        acts.append(Remove(delete))
    if truncate := _paths(file, name, body, "truncate"):
        acts.append(Truncate(truncate))
    acts += [_edit(file, name, row) for row in _rows(file, name, body, "edit")]
    acts += [_upload(file, name, row) for row in _rows(file, name, body, "upload")]
    runs = body.get("run", [])
    if not isinstance(runs, list):
        raise _bad(file, f"{name}: run is a list of lists of words")
    acts += [_run(file, name, argv) for argv in runs]
    if not acts:
        raise _bad(file, f"{name} does nothing")
    return Operation(
        name=name,
        title=str(body.get("title", name)),
        why=str(body.get("why", "asked for by the user")),
        source=file.name,
        acts=tuple(acts),
        default=default,
    )


def _paths(file: Path, name: str, body: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = body.get(key, [])
    if not isinstance(found, list):
        raise _bad(file, f"{name}: {key} is a list of paths")
    return tuple(_path(file, name, path) for path in found)


def _path(file: Path, name: str, path: Any) -> str:
    parts = [part for part in path.split("/") if part] if isinstance(path, str) else []
    if (
        not parts
        or not path.startswith("/")
        or ".." in parts
        or "\0" in path
        or all(set(p) <= {"*"} for p in parts)
    ):
        raise _bad(file, f"{name}: {path!r} is no absolute path below /, without ..")
    return str(path)


def _rows(file: Path, name: str, body: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    wanted = {"edit": {"path", "match", "replace"}, "upload": {"from", "to"}}[key]
    optional = {"edit": set[str](), "upload": {"mode"}}[key]
    found = body.get(key, [])
    if not isinstance(found, list):
        raise _bad(file, f"{name}: {key} is a list of tables")
    for row in found:
        if not isinstance(row, dict) or not wanted <= row.keys() <= wanted | optional:
            raise _bad(file, f"{name}: each {key} has {_spoken(wanted)}")
        if not all(isinstance(value, str) for value in row.values()):
            raise _bad(file, f"{name}: values of {key} are texts")
    return found


def _edit(file: Path, name: str, row: Mapping[str, str]) -> Act:
    try:
        edit = replaced(row["match"].encode(), row["replace"].encode())
        re.compile(row["match"].encode()).sub(row["replace"].encode(), b"")
    except (re.error, IndexError) as error:
        raise _bad(file, f"{name}: {row['match']!r}: {error}") from None
    return EditFiles((_path(file, name, row["path"]),), edit)


def _upload(file: Path, name: str, row: Mapping[str, str]) -> Act:
    mode = row.get("mode", "0644")
    if not _MODE.fullmatch(mode):
        raise _bad(file, f"{name}: mode {mode!r} is no mode like 0644")
    source = file.parent / row["from"]
    try:
        with source.open("rb") as opened:
            data = opened.read(READ_LIMIT_BYTES + 1)
    except OSError as error:
        raise _bad(file, f"{name}: {source}: {error.strerror}") from None
    if len(data) > READ_LIMIT_BYTES:
        raise _bad(file, f"{name}: {source} has more than {READ_LIMIT_BYTES} bytes")
    return WriteFile(_path(file, name, row["to"]), data, int(mode, 8))


def _run(file: Path, name: str, argv: Any) -> Act:
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
        raise _bad(file, f"{name}: each run is a list of words, the program first")
    return Run((_path(file, name, argv[0]), *argv[1:]))


def _spoken(keys: Collection[str]) -> str:
    return ", ".join(sorted(keys))


def _bad(file: Path, cause: str) -> UsageError:
    return UsageError(f"cannot use {file}", code="OWN_OPERATION", cause=cause)
