"""Random draws one at a time, from the stream of a role, a seed and keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from experiments.search.samplers.streams import words

T = TypeVar("T")
BLOCK = 64


class Stream:
    """Draws of ``role/key/key...``: the same ones whenever it is made anew.

    >>> Stream("doc", 1).below(1000) == Stream("doc", 1).below(1000)
    True
    """

    def __init__(self, role: str, *keys: int) -> None:
        """Nothing is drawn yet."""
        self._role, self._keys, self._block = role, keys, 0
        self._words: list[int] = []

    def word(self) -> int:
        """64 random bits."""
        if not self._words:
            drawn = words(f"architecture {self._role}", *self._keys, self._block, count=BLOCK)
            self._words = [int(x) for x in reversed(drawn)]
            self._block += 1
        return self._words.pop()

    def uniform(self) -> float:
        """In [0, 1)."""
        return (self.word() >> 11) * 2.0**-53

    def below(self, count: int) -> int:
        """A whole number from 0 to ``count`` - 1."""
        return int(self.uniform() * count)

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in random order (Fisher and Yates)."""
        result = list(items)
        for i in range(len(result) - 1, 0, -1):
            j = self.below(i + 1)
            result[i], result[j] = result[j], result[i]
        return result
