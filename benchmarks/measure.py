"""What every benchmark needs: a lab of its own, timed commands, medians, a record."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twinship_lab import Lab, LabHost
from twinship_lab.state import DEFAULT_ROOT, DIRECTORY_VARIABLE

RESULTS = Path(__file__).with_name("results")
GIB = 2**30
IMAGES = "/var/lib/libvirt/images"
"""Where a lab host's disks lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One measured number beside its peer's.

    ``limit`` is what the figure may be at most; None for a number that is only told.
    """

    name: str
    unit: str
    ours: list[float]
    peer: list[float]
    peer_name: str
    limit: float | None
    kind: str = "ratio"

    @property
    def figure(self) -> float:
        """Ours by the peer's (or minus, or ours alone), of the medians."""
        ours = statistics.median(self.ours)
        peer = statistics.median(self.peer) if self.peer else 0.0
        return {"ratio": ours / peer if peer else 0.0, "difference": ours - peer}.get(
            self.kind, ours
        )

    @property
    def held(self) -> bool:
        """Whether the claim stands."""
        return self.limit is None or self.figure <= self.limit


def timed(command: Sequence[str], environment: dict[str, str] | None = None) -> float:
    """Seconds of wall time a command takes; fails loudly when it fails."""
    began = time.monotonic()
    done = subprocess.run(
        command,
        env=_as_installed(environment),
        check=False,
        text=True,
        capture_output=True,
        timeout=600,
    )
    took = time.monotonic() - began
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}: {done.stderr}{done.stdout}")
    return took


def forget_caches() -> None:
    """Drops the page cache, so that every run reads from the disk."""
    timed(["sync"])
    Path("/proc/sys/vm/drop_caches").write_text("3")


def _as_installed(environment: dict[str, str] | None) -> dict[str, str]:
    """With bytecode, as an installed program has it."""
    wanted = dict(os.environ if environment is None else environment)
    wanted.pop("PYTHONDONTWRITEBYTECODE", None)
    return wanted


@contextmanager
def lab(hosts: int, directory: Path | None = None) -> Iterator[tuple[Lab, dict[str, str]]]:
    """A lab of its own with the hosts in its inventory, and the environment to reach it."""
    usual = Path(os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_ROOT)
    with tempfile.TemporaryDirectory(prefix="tb", dir=directory or "/var/tmp") as made:
        root = Path(made) / "lab"
        root.mkdir(mode=0o700)
        (root / "cache").symlink_to(usual / "cache")
        environment = {**os.environ, DIRECTORY_VARIABLE: str(root)}
        try:
            timed(
                [sys.executable, "-m", "twinship", "lab", "up", "--hosts", str(hosts)], environment
            )
            yield Lab(root), environment
        finally:
            timed([sys.executable, "-m", "twinship", "lab", "down"], environment)


def twinship(*words: str) -> list[str]:
    """The command line under test, on the lab's inventory."""
    return [str(Path(sys.executable).with_name("twinship")), "--lab", *words]


def allocated(host: LabHost, path: str) -> int:
    """Bytes a file of a host takes."""
    return host.outside(path).stat().st_blocks * 512


def record(name: str, claims: list[Claim], notes: dict[str, Any]) -> int:
    """Writes the results, prints them, and returns 1 when a claim does not hold."""
    RESULTS.mkdir(exist_ok=True)
    document = {
        "benchmark": name,
        "machine": {
            "cpus": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "notes": notes,
        "claims": [
            {**asdict(claim), "figure": round(claim.figure, 4), "held": claim.held}
            for claim in claims
        ],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    (RESULTS / f"{name}.md").write_text(table(name, claims))
    draw(name, claims)
    for claim in claims:
        ours = statistics.median(claim.ours)
        peer = f" {statistics.median(claim.peer):.3f}" if claim.peer else ""
        print(f"{'ok  ' if claim.held else 'MISS'} {claim.name}")
        print(
            f"     ours {ours:.3f} {claim.unit}, peer{peer} ({claim.peer_name or '-'}): "
            f"{claim.kind} {claim.figure:.3f}"
            + (f", at most {claim.limit:g}" if claim.limit is not None else ", told only")
        )
    return 0 if all(claim.held for claim in claims) else 1


def table(name: str, claims: list[Claim]) -> str:
    """The claims as a table for people."""
    rows = [
        f"| {claim.name} | {claim.peer_name or '-'} | {claim.kind} {claim.figure:.3f} "
        f"{'' if claim.kind == 'ratio' else claim.unit} | "
        f"{'told only' if claim.limit is None else f'{claim.limit:g}'} |"
        for claim in claims
    ]
    head = "| what | peer | ours by peer | at most |\n|---|---|---|---|"
    return "\n".join([f"# {name}, newest run", "", head, *rows]) + "\n"


def draw(name: str, claims: list[Claim]) -> None:
    """A bar for each ratio, with the line it must not cross."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "twinship"
    from matplotlib import pyplot

    shown = [claim for claim in claims if claim.kind == "ratio"]
    figure, axes = pyplot.subplots(figsize=(8, 0.6 * len(shown) + 1.2))
    for row, claim in enumerate(shown):
        axes.barh(row, claim.figure, color="#0066cc" if claim.held else "#c9190b", height=0.5)
        if claim.limit is not None:
            axes.plot([claim.limit] * 2, [row - 0.35, row + 0.35], color="#151515", linewidth=2)
        axes.text(claim.figure + 0.02, row, f"{claim.figure:.2f}", va="center", fontsize=9)
    axes.set_yticks(range(len(shown)), [f"{c.name}\n(peer: {c.peer_name})" for c in shown])
    axes.tick_params(labelsize=8)
    axes.axvline(1.0, color="#8a8d90", linewidth=0.8, linestyle=":")
    axes.set_xlabel("Twinship by its peer, medians of one run (black: the limit)")
    axes.invert_yaxis()
    figure.tight_layout()
    figure.savefig(RESULTS / f"{name}.svg", metadata={"Date": None})
