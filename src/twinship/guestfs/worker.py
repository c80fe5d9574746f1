"""The process that holds a libguestfs handle: calls in on stdin, answers out on stdout, as JSON.

A process of its own because a call into the library cannot be given up, only killed. It loads the
C library itself: the library's Python module exists only for the system's own Python.

One line a call, ``["vfs_type", "/dev/sda1"]``, one line an answer, ``{"ok": "ext4"}`` or
``{"error": "..."}``. ``serve DIRECTORY`` answers once the files appear there and again when that
was unmounted. Keys travel here, so nothing of a call is ever logged.

Source: guestfs(3).
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from typing import Any

LIBRARY = "libguestfs.so.0"

_ARGUMENTS: dict[str, str] = {
    "launch": "",
    "shutdown": "",
    "sync": "",
    "umount_all": "",
    "list_devices": "",
    "list_partitions": "",
    "part_to_dev": "s",
    "part_to_partnum": "s",
    "vfs_type": "s",
    "vfs_uuid": "s",
    "vfs_label": "s",
    "exists": "s",
    "is_dir": "s",
    "read_file": "s",
    "lvs": "",
    "vgs": "",
    "lvm_set_filter": "l",
    "vg_activate_all": "b",
    "pvchange_uuid_all": "",
    "vgchange_uuid_all": "",
    "feature_available": "l",
    "mount_options": "sss",
    "command": "l",
}
_ANSWERS: dict[str, str] = {
    "list_devices": "list",
    "list_partitions": "list",
    "lvs": "list",
    "vgs": "list",
    "part_to_dev": "text",
    "vfs_type": "text",
    "vfs_uuid": "text",
    "vfs_label": "text",
    "command": "text",
    "exists": "number",
    "is_dir": "number",
    "feature_available": "number",
    "part_to_partnum": "number",
}


class _AddDrive(ctypes.Structure):
    """guestfs_add_drive_opts_argv: only what the bit mask names is read."""

    _fields_ = [
        ("bitmask", ctypes.c_uint64),
        ("readonly", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("rest", ctypes.c_char * 256),
    ]


class LibraryError(Exception):
    """libguestfs said no; its words."""


class Handle:
    """A libguestfs handle. Any call raises :class:`LibraryError`."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(LIBRARY)
        self._libc = ctypes.CDLL(None)
        self._libc.free.argtypes = [ctypes.c_void_p]
        self._library.guestfs_create.restype = ctypes.c_void_p
        self._library.guestfs_last_error.restype = ctypes.c_char_p
        self._library.guestfs_last_error.argtypes = [ctypes.c_void_p]
        self._handle = ctypes.c_void_p(self._library.guestfs_create())
        self._library.guestfs_set_error_handler(self._handle, None, None)

    def add_drive(self, path: str, *, read_only: bool) -> None:
        """Adds a disk whose bytes are taken as they are."""
        options = _AddDrive(bitmask=0b11, readonly=int(read_only), format=b"raw")
        function = self._library.guestfs_add_drive_opts_argv
        self._check(function(self._handle, _encoded(path), ctypes.byref(options)))

    def open_luks(self, device: str, key: str, name: str) -> None:
        """Opens an encrypted device as ``/dev/mapper/NAME``."""
        function = self._library.guestfs_cryptsetup_open_argv
        self._check(function(self._handle, _encoded(device), _encoded(key), _encoded(name), None))

    def relabel(self, contexts: str) -> None:
        """Sets the SELinux labels of all mounted files as this file of contexts has them."""
        function = self._library.guestfs_selinux_relabel_argv
        self._check(function(self._handle, _encoded(contexts), b"/", None))

    def serve(self, directory: str, ready: Callable[[], None]) -> None:
        """Shows the mounted files in a directory until that is unmounted."""
        mount = self._library.guestfs_mount_local_argv
        self._check(mount(self._handle, _encoded(directory), None))
        ready()
        self._check(self._library.guestfs_mount_local_run(self._handle))

    def call(self, name: str, arguments: list[Any]) -> Any:
        """A function of the library by its name, among those that the table lists."""
        if name == "read_file":
            return self._read_file(arguments[0])
        given = [
            _GIVEN[kind](value) for kind, value in zip(_ARGUMENTS[name], arguments, strict=True)
        ]
        function = getattr(self._library, f"guestfs_{name}")
        kind = _ANSWERS.get(name, "none")
        function.restype = ctypes.c_int if kind in ("none", "number") else ctypes.c_void_p
        answer = function(self._handle, *given)
        match kind:
            case "text":
                return self._text(answer)
            case "list":
                return self._list(answer)
            case _:
                self._check(answer)
                return answer

    def _read_file(self, path: str) -> str:
        size = ctypes.c_size_t()
        function = self._library.guestfs_read_file
        function.restype = ctypes.c_void_p
        answer = function(self._handle, _encoded(path), ctypes.byref(size))
        if not answer:
            raise self._error()
        try:
            return ctypes.string_at(answer, size.value).decode("utf-8", "replace")
        finally:
            self._libc.free(answer)

    def _text(self, answer: int | None) -> str:
        if not answer:
            raise self._error()
        try:
            return ctypes.string_at(answer).decode("utf-8", "surrogateescape")
        finally:
            self._libc.free(answer)

    def _list(self, answer: int | None) -> list[str]:
        if not answer:
            raise self._error()
        pointers = ctypes.cast(answer, ctypes.POINTER(ctypes.c_void_p))
        found, at = [], 0
        while pointers[at]:
            found.append(self._text(pointers[at]))
            at += 1
        self._libc.free(answer)
        return found

    def _check(self, answer: int) -> None:
        if answer == -1:
            raise self._error()

    def _error(self) -> LibraryError:
        said = self._library.guestfs_last_error(self._handle)
        return LibraryError(said.decode("utf-8", "replace") if said else "it said nothing")


def _encoded(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _listed(values: list[str]) -> Any:
    array = (ctypes.c_char_p * (len(values) + 1))()
    array[:-1] = [_encoded(value) for value in values]
    return array


_GIVEN: dict[str, Callable[[Any], Any]] = {"s": _encoded, "l": _listed, "b": int}


def _answer(**words: Any) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def _obey(handle: Handle, name: str, arguments: list[Any]) -> None:
    match name:
        case "add_drive":
            handle.add_drive(arguments[0], read_only=arguments[1])
        case "open_luks":
            handle.open_luks(*arguments)
        case "relabel":
            handle.relabel(*arguments)
        case "serve":
            handle.serve(arguments[0], lambda: _answer(ok="serving"))
        case _:
            _answer(ok=handle.call(name, arguments))
            return
    _answer(ok=None)


def main() -> None:
    """Obeys until stdin ends."""
    try:
        handle = Handle()
    except OSError as error:
        _answer(missing=str(error))
        return
    _answer(ok="ready")
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            _obey(handle, name, arguments)
        except LibraryError as error:
            _answer(error=str(error))


if __name__ == "__main__":
    main()
