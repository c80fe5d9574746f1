"""The story of ``script/demo``: runs the public commands, shows each before its output.

It plays in a lab of its own, so that a lab somebody works in is left alone; only with ``--keep``
is it the usual one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinship_lab.state import DEFAULT_ROOT, DIRECTORY_VARIABLE

IMAGES = "/var/lib/libvirt/images"


class StepFailed(Exception):
    """A command of the story failed."""


@dataclass(frozen=True, slots=True)
class Story:
    """Where the commands run."""

    environment: dict[str, str]

    def show(self, *words: str) -> None:
        """Prints a command, then runs it, its output going where ours goes."""
        print(f"\n$ twinship {' '.join(words)}", flush=True)
        if self._process(words).returncode != 0:
            raise StepFailed(f"twinship {' '.join(words)}")

    def ask(self, *words: str) -> Any:
        """The JSON a command prints, unseen."""
        process = self._process((*words, "-o", "json"), capture=True)
        if process.returncode != 0:
            raise StepFailed(f"twinship {' '.join(words)}: {process.stderr}")
        return json.loads(process.stdout)

    def quiet(self, *words: str) -> str:
        """A command's text, unseen."""
        process = self._process(words, capture=True)
        if process.returncode != 0:
            raise StepFailed(f"twinship {' '.join(words)}: {process.stderr}")
        return process.stdout

    def _process(
        self, words: tuple[str, ...], *, capture: bool = False
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "twinship", *words]
        sys.stdout.flush()
        return subprocess.run(
            command,
            env=self.environment,
            check=False,
            text=True,
            stdout=subprocess.PIPE if capture else None,
            stderr=subprocess.PIPE if capture else subprocess.STDOUT,
        )


def say(text: str) -> None:
    """A line of the story itself."""
    print(f"\n# {text}", flush=True)


def tell(story: Story) -> None:
    """The story."""
    say("Two real KVM hosts on this machine: a libvirtd and an address each.")
    story.show("lab", "up", "--hosts", "2")
    story.show("--lab", "host", "list")
    say("A small Linux VM with a disk. It counts ticks.")
    story.show("lab", "guest", "web", "--disk", "2GiB", "--data", "256MiB", "--writes", "100kB/s")
    story.show("--lab", "vm", "start", "web", "--wait-boot")
    story.show("--lab", "vm", "stop", "web")
    say("A clone: new name, UUID, MACs, and a disk of its own.")
    story.show("--lab", "clone", "web", "web-2")
    story.show("--lab", "vm", "start", "web-2", "--wait-boot")
    say("Move the running clone, with its disk. First what would happen, then for real.")
    story.show("--lab", "migrate", "web-2", "--to", "lab2", "--dry-run")
    story.show("--lab", "migrate", "web-2", "--to", "lab2")
    story.show("--lab", "vm", "list")
    say("Move the shut-off VM, with its disk: no scp, and byte for byte.")
    story.show("--lab", "migrate", "web", "--to", "lab2", "--verify")
    story.show("--lab", "vm", "list")
    story.show("--lab", "operation", "list")


def sum_up(story: Story, began: float) -> None:
    """What it all took, from what the operations recorded and what the guest says."""
    operations = story.ask("--lab", "operation", "list")["items"]
    by_title = {op["title"]: op for op in reversed(operations)}
    clone = next(op for title, op in by_title.items() if op["kind"] == "clone")
    live = next(op for op in operations if op["kind"] == "migrate" and _mode(op) == "live")
    offline = next(op for op in operations if op["kind"] == "migrate" and _mode(op) == "offline")
    ticks = _ticks(story, "lab2", "web-2")
    copied = clone["result"]["clones"][0]["disks"][0]
    print("\nSummary")
    print(f"  clone          {copied['seconds']:6.2f} s   {_mib(copied['bytes_copied'])} copied")
    moved = live["result"]
    print(
        f"  live move      {moved['seconds']:6.2f} s   memory {_mib(moved['bytes_memory'])}, "
        f"disk {_mib(moved['bytes_disk'])}"
    )
    margin = " " * 26
    print(f"{margin}pause {moved['pause_s']:.2f} s by QEMU's count,")
    print(f"{margin}{moved['pause_guest_s']:.2f} s by what the guest's clock lost")
    print(
        f"  guest          {ticks['up_s']:6.0f} s   up, {ticks['ticks']} ticks, longest gap "
        f"{ticks['longest_gap_s']:.2f} s,"
    )
    print(
        f"{margin}{ticks['disk_writes']} disk writes, {ticks['disk_errors']} "
        f"of them wrong, {ticks['memory_errors']} memory errors"
    )
    carried = offline["result"]
    print(f"  offline move   {carried['seconds']:6.2f} s   disk {_mib(carried['bytes_disk'])}")
    for name in ("web.qcow2", "web-2.qcow2"):
        sizes = [_allocated(story, host, name) for host in ("lab1", "lab2")]
        print(f"  {name:<14} {_mib(sizes[0])} allocated on lab1, {_mib(sizes[1])} on lab2")
    print(f"  everything     {time.monotonic() - began:6.0f} s", flush=True)


def main() -> int:
    """Tells the story; 0 when every command did what it said."""
    parser = argparse.ArgumentParser(prog="script/demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the lab for playing")
    keep = parser.parse_args().keep
    began = time.monotonic()
    usual = Path(os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_ROOT)
    with tempfile.TemporaryDirectory(prefix="twinship-demo-", dir="/var/tmp") as own:
        root = usual if keep else Path(own) / "lab"
        if not keep:
            root.mkdir(mode=0o700)
            (root / "cache").symlink_to(usual / "cache")
        story = Story({**os.environ, DIRECTORY_VARIABLE: str(root)})
        try:
            tell(story)
            sum_up(story, began)
        except (StepFailed, KeyboardInterrupt) as failed:
            print(f"\ndemo: stopped at: {failed or 'Ctrl-C'}", file=sys.stderr)
            return 1
        finally:
            if not keep:
                story.quiet("lab", "down")
    if keep:
        print("\nThe lab is still up. Try: twinship --lab vm list; end it with: twinship lab down")
    return 0


def _mode(op: dict[str, Any]) -> str:
    return str((op["result"] or {}).get("mode"))


def _ticks(story: Story, host: str, name: str) -> dict[str, Any]:
    """What the guest itself says; its clock shows a stop only at its next full second."""
    time.sleep(2.2)
    command = '{"execute":"twinship-ticks"}'
    text = story.quiet("lab", "run", host, "--", "virsh", "qemu-agent-command", name, command)
    answer: dict[str, Any] = json.loads(text)["return"]
    return answer


def _allocated(story: Story, host: str, name: str) -> int:
    text = story.quiet("lab", "run", host, "--", "stat", "-c", "%b", f"{IMAGES}/{name}")
    return int(text) * 512


def _mib(count: int) -> str:
    return f"{count / 2**20:7.1f} MiB"


if __name__ == "__main__":
    sys.exit(main())
