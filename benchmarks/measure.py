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


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One measured number beside its peer's. ``limit`` is what the ratio may be at most."""

    name: str
    unit: str
    ours: list[float]
    peer: list[float]
    peer_name: str
    limit: float
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
        return self.figure <= self.limit


def timed(command: Sequence[str], environment: dict[str, str] | None = None) -> float:
    """Seconds of wall time a command takes; fails loudly when it fails."""
    began = time.monotonic()
    done = subprocess.run(
        command, env=environment, check=False, text=True, capture_output=True, timeout=600
    )
    took = time.monotonic() - began
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}: {done.stderr}{done.stdout}")
    return took


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
    for claim in claims:
        ours = statistics.median(claim.ours)
        peer = f" {statistics.median(claim.peer):.3f}" if claim.peer else ""
        print(f"{'ok  ' if claim.held else 'MISS'} {claim.name}")
        print(
            f"     ours {ours:.3f} {claim.unit}, peer{peer} ({claim.peer_name or '-'}): "
            f"{claim.kind} {claim.figure:.3f}, at most {claim.limit:g}"
        )
    return 0 if all(claim.held for claim in claims) else 1
