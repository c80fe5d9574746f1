"""The forecast of one move, in numbers and in words; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twinship.migrate.forecast import DirtyCurve, Prediction, Verdict, corrected, predict
from twinship.model.plan import Forecast

if TYPE_CHECKING:
    from twinship.migrate.checks.case import MigrateCase

USUAL_PAUSE_S = 0.3
"""QEMU's own limit, where the user names none."""
ASSUMED_LINK = 110 * 10**6
"""Bytes/s of a gigabit network: what is taken for a link nothing has gone over yet."""


def outlook(case: MigrateCase) -> Prediction | None:
    """What the model says; None for a move of no memory, or of a guest that was not looked at."""
    load = case.facts.load
    if not case.live or load is None:
        return None
    curve = DirtyCurve.measured(load.windows, case.facts.summary.memory_bytes)
    return predict(
        curve,
        memory_bytes=load.memory_bytes,
        link=case.facts.past.link or ASSUMED_LINK,
        pause_s=allowed_pause(case),
        disk_bytes=sum(layer.allocated_bytes for disk in case.copied for layer in disk.chain),
        rate=case.request.rate,
    )


def allowed_pause(case: MigrateCase) -> float:
    """The longest pause the user allows."""
    asked = case.request.max_pause_s
    return USUAL_PAUSE_S if asked is None else asked


def forecast(case: MigrateCase) -> Forecast | None:
    """The forecast as plans show it."""
    if not case.live:
        return None
    told = outlook(case)
    if told is None:
        reason = "how busy the guest is has not been measured"
        return Forecast(verdict=Verdict.MAYBE.value, seconds=None, pause_s=None, reason=reason)
    verdict = told.verdict
    assumed = not case.facts.past.link
    if assumed and verdict is Verdict.WILL_NOT:
        verdict = Verdict.MAYBE
    seconds = corrected(told.seconds, case.facts.past.seconds)
    arrives = verdict is not Verdict.WILL_NOT
    return Forecast(
        verdict=verdict.value,
        seconds=round(seconds, 2) if arrives else None,
        pause_s=round(told.pause_s, 3) if arrives else None,
        reason=_reason(case, told, verdict, seconds) + (_ASSUMED if assumed else ""),
    )


_ASSUMED = "; the link is taken for 1 Gbit/s until something has gone over it"


def _reason(case: MigrateCase, told: Prediction, verdict: Verdict, seconds: float) -> str:
    allowed = allowed_pause(case)
    match verdict:
        case Verdict.WILL:
            return f"about {_time(seconds)}, with a pause of about {_time(told.pause_s)}"
        case Verdict.MAYBE:
            return (
                f"about {_time(seconds)} if it fits a pause of {_time(allowed)}; "
                f"{_time(told.needs_pause_s)} would do for certain"
            )
        case Verdict.WILL_NOT:
            return (
                f"the guest writes faster than it is sent: not within a pause of {_time(allowed)}, "
                f"it would need {_time(told.needs_pause_s)}"
            )


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds:.2f} s"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
