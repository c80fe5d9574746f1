"""The verbs there are, each made when it is first asked for: a command loads only its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from twinship.operations.verb import Verb


class Registry(Mapping[str, Verb]):
    """Verbs by kind, made by what was given for each, once."""

    def __init__(self, makers: Mapping[str, Callable[[], Verb]]) -> None:
        self._makers = makers
        self._made: dict[str, Verb] = {}

    def __getitem__(self, kind: str) -> Verb:
        if kind not in self._made:
            self._made[kind] = self._makers[kind]()
        return self._made[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)
