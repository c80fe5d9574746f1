"""When a live move goes over to post-copy: the policy over what is seen of its rounds; pure."""

from __future__ import annotations

from twinship.model.request import PostCopyWay

FALLS_BELOW = 0.96
"""A round that leaves more than this share of the best one before has not got further."""
STANDING_ROUNDS = 3
FIRST_ROUND_OVER = 2
"""QEMU counts its rounds from 1."""


class Stall:
    """Whether the rounds of a memory lead nowhere.

    At the beginning of each round what remains is looked at: after three rounds that bring it no
    further, and as long as it is more than the allowed pause carries over, the move stands.
    """

    def __init__(self, pause_s: float) -> None:
        """``pause_s``: the longest pause that is allowed at the end."""
        self._pause_s = pause_s
        self._round = 0
        self._best: int | None = None
        self._standing = 0

    def saw(self, *, round_: int, remaining: int, rate: int) -> bool:
        """The newest numbers (bytes, bytes/s); whether the move stands still."""
        if round_ != self._round:
            self._round = round_
            if self._best is None or remaining < FALLS_BELOW * self._best:
                self._best, self._standing = remaining, 0
            else:
                self._standing += 1
        return self._standing >= STANDING_ROUNDS and remaining > self._pause_s * rate


class SwitchPolicy:
    """``prefer``: once the first round is over. ``allow``: when the move does not get there.

    That is known after the first round when the forecast said so, else by :class:`Stall`.
    """

    def __init__(self, way: PostCopyWay, *, will_not: bool, pause_s: float) -> None:
        """``will_not``: the forecast is certain that the move never fits its pause."""
        self._way = way
        self._soon = way is PostCopyWay.PREFER or (way is PostCopyWay.ALLOW and will_not)
        self._stall = Stall(pause_s)

    def due(self, *, round_: int, remaining: int, rate: int) -> bool:
        """Whether to go over now; to be told of every round. Round 0: no memory crosses yet."""
        if self._way is PostCopyWay.NEVER or not round_:
            return False
        stands = self._stall.saw(round_=round_, remaining=remaining, rate=rate)
        return stands or (self._soon and round_ >= FIRST_ROUND_OVER)
