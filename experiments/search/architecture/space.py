"""A space of architectures: named choices, and a function that builds what they mean.

A point of a space is its code, one option's index a choice. Strategies see codes alone; a space
tells them which are legal and which are the same architecture. `cells` and `stacks` make the usual
spaces; any other is a `Space` with a ``build`` of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Literal

import numpy as np

from experiments.search.architecture.graph import Graph, IllegalArchitectureError
from experiments.search.architecture.operations import OperationCost, Shape
from experiments.search.architecture.streams import Stream

Code = tuple[int, ...]
Option = str | int | None
LARGEST = 1_000_000
"""Codes that are looked through one by one; a larger space is only sampled."""
DRAWS = 1000
"""Draws without success after which a space is looked through, or given up."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A frozen value: graphs by name, in canonical form, so that isomorphic ones are equal.

    Attributes:
      graphs: ("network", graph) of a stack; ("normal", ...) and ("reduction", ...) of cells.
    """

    graphs: tuple[tuple[str, Graph], ...]

    @staticmethod
    def of(**graphs: Graph) -> Architecture:
        """The architecture of these graphs."""
        return Architecture(tuple((name, graph.canonical()) for name, graph in graphs.items()))

    def __str__(self) -> str:
        """A line a graph."""
        if len(self.graphs) == 1:
            return str(self.graphs[0][1])
        return "\n".join(f"{name}: {graph}" for name, graph in self.graphs)

    def graph(self, name: str) -> Graph:
        """The graph of this name."""
        return dict(self.graphs)[name]

    def cost(self, shape: Shape) -> OperationCost:
        """Output shape, parameters and FLOPs an example of an architecture of one graph.

        Raises:
          IllegalArchitectureError: shapes do not fit.
          ValueError: it has several graphs, whose stacking it does not know.
        """
        if len(self.graphs) > 1:
            names = ", ".join(name for name, _ in self.graphs)
            raise ValueError(f"the cost of {names} depends on how they are stacked; ask each graph")
        return self.graphs[0][1].cost(shape)


@dataclasses.dataclass(frozen=True)
class Space:
    """Choices and their meaning.

    Attributes:
      name: for messages.
      choices: (name, options) each; an option is a string, a whole number or None.
      build: choice -> option, to the architecture; raises IllegalArchitectureError.
      same: "architecture": codes of isomorphic architectures are one; "code": every code counts
        for itself and is legal (tables that were measured code by code).
    """

    name: str
    choices: tuple[tuple[str, tuple[Option, ...]], ...]
    build: Callable[[Mapping[str, Option]], Architecture]
    same: Literal["architecture", "code"] = "architecture"

    def __post_init__(self) -> None:
        """Refuse choices without options."""
        for name, options in self.choices:
            if not options or len(set(options)) < len(options):
                raise ValueError(f"choice {name!r} needs distinct options, got {options}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Options a choice."""
        return tuple(len(options) for _, options in self.choices)

    def options(self, code: Code) -> dict[str, Option]:
        """Choice -> option of a code."""
        return {name: options[i] for (name, options), i in zip(self.choices, code, strict=True)}

    def architecture(self, code: Code) -> Architecture:
        """The architecture that a code means.

        Raises:
          IllegalArchitectureError: it cannot be built; says why in one line.
        """
        return self.build(self.options(code))

    def key(self, code: Code) -> Hashable | None:
        """Equal for codes that are one architecture; None for an illegal one."""
        known = self._keys
        if code not in known:
            if len(known) > LARGEST:
                known.clear()
            known[code] = self._new_key(code)
        return known[code]

    @functools.cached_property
    def _keys(self) -> dict[Code, Hashable | None]:
        """A cache; equal spaces may each have their own."""
        return {}

    def _new_key(self, code: Code) -> Hashable | None:
        if self.same == "code":
            return code
        try:
            return self.architecture(code)
        except IllegalArchitectureError:
            return None

    def illegal(self, code: Code) -> str:
        """Say why a code cannot be built; "" if it can."""
        try:
            self.architecture(code)
        except IllegalArchitectureError as error:
            return str(error)
        return ""

    @property
    def codes(self) -> int:
        """Codes, legal or not."""
        return math.prod(self.sizes)

    def encoded(self, codes: list[Code]) -> np.ndarray:
        """bool [codes, sum of sizes]: one-hot, choice after choice."""
        begins = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(int)
        result = np.zeros((len(codes), sum(self.sizes)), bool)
        if codes:
            result[np.arange(len(codes))[:, None], np.array(codes) + begins] = True
        return result

    def code_at(self, place: int) -> Code:
        """The code at a place of the lexicographic order, 0 to ``codes`` - 1."""
        found = []
        for size in reversed(self.sizes):
            place, digit = divmod(place, size)
            found.append(digit)
        return tuple(reversed(found))

    def enumerated(self) -> Iterator[Code]:
        """The first code of every legal architecture, in lexicographic order.

        Raises:
          ValueError: the space is too large to look through.
        """
        if self.codes > LARGEST:
            raise ValueError(
                f"space {self.name} has {self.codes:,} codes; at most {LARGEST:,} are enumerated"
            )
        seen: set[Hashable] = set()
        for code in itertools.product(*map(range, self.sizes)):
            key = self.key(code)
            if key is not None and key not in seen:
                seen.add(key)
                yield code

    def count(self) -> int:
        """Legal architectures that differ.

        Raises:
          ValueError: the space is too large to look through.
        """
        return sum(1 for _ in self.enumerated())

    def neighbours(self, code: Code) -> list[Code]:
        """Legal codes with one choice changed that are another architecture, in a fixed order."""
        own = self.key(code)
        found = []
        for place, size in enumerate(self.sizes):
            for option in range(size):
                other = (*code[:place], option, *code[place + 1 :])
                if option != code[place] and self.key(other) not in (None, own):
                    found.append(other)
        return found

    def sample(self, stream: Stream) -> Code:
        """A uniform legal code.

        Raises:
          IllegalArchitectureError: there is none; says why the first was refused.
        """
        for _ in range(DRAWS):
            code = tuple(stream.below(size) for size in self.sizes)
            if self.key(code) is not None:
                return code
        if self.codes <= LARGEST:
            legal = list(self.enumerated())
            if legal:
                return legal[stream.below(len(legal))]
        first = self.illegal((0,) * len(self.sizes)) or "none was found"
        raise IllegalArchitectureError(f"space {self.name} has no legal architecture: {first}")
