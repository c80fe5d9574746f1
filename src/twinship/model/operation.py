"""An operation: one change under way or done, with its progress and its history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class OperationState(StrEnum):
    """Where an operation stands."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NEEDS_ATTENTION = "needs_attention"

    @property
    def ended(self) -> bool:
        """True when nothing more will happen by itself."""
        return self in _ENDED


_ENDED = frozenset(
    {
        OperationState.SUCCEEDED,
        OperationState.FAILED,
        OperationState.CANCELLED,
        OperationState.NEEDS_ATTENTION,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far it is. ``percent`` never goes back; None stands for "not known yet"."""

    phase: str = ""
    percent: float | None = None
    bytes_done: int = 0
    bytes_total: int = 0
    rate: int = 0
    eta_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of an operation's history."""

    seq: int
    at: datetime
    kind: str
    phase: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One change, as the store knows it."""

    id: str
    kind: str
    title: str
    state: OperationState
    created: datetime
    started: datetime | None
    ended: datetime | None
    user: str
    resources: tuple[str, ...]
    spec: Mapping[str, Any]
    parent: str | None = None
    children: tuple[str, ...] = ()
    progress: Progress = Progress()
    waiting_for: str = ""
    leftovers: tuple[str, ...] = ()
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    owner: str = ""
    fence: int = 0
    lease_until: float = 0.0
    cancel_requested: bool = False
