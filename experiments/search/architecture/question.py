"""A search for an architecture as a search over modules: choices are its hyperparameters.

    STUDY = architecture_search(
        every_edge(3), Skeleton((8, 8, 1), 10, width=8), strategy="local",
        workload="digits_fc", trials=30, budget=10, fixed={"learning_rate": 3e-3},
    )

`experiments.runner.search.search` and ``batchscale run`` train it, record it and go on with it
after a kill: what a strategy proposes follows from its seed and the recorded results.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.search.architecture.frames import (
    Frames,
    NotPackableError,
    check_shapes,
    frames_of_space,
    weights,
)
from experiments.search.architecture.inheritance import (
    Inheritance,
    TrainedArchitecture,
    parent_of,
)
from experiments.search.architecture.places import cell_shape, check_sizes
from experiments.search.architecture.recorded import space_to_json
from experiments.search.architecture.space import Architecture, Code, Space
from experiments.search.architecture.strategies.base import ScoredCode, rebuilt
from experiments.search.architecture.strategies.table import STRATEGIES, strategy
from experiments.search.samplers.base import Ask, Point, Proposal, Seen
from experiments.spec.space import Choice, Value
from experiments.spec.user_search import UserSearch
from workloads.architectures import Skeleton
from workloads.registry import resolve

ONE = 1
"""The batch size under which a search's rounds are recorded."""
MODELS = "workloads.models.architectures"
CHECKED = 20
"""Further architectures whose sizes are checked beforehand."""
MOST_FRAMED = 20_000
"""Codes of a space that are looked through for its frame; a larger one is not packed."""


def architecture_search(
    space: Space,
    network: Skeleton | tuple[int, ...],
    *,
    strategy: str = "evolution",
    settings: Mapping[str, float] | None = None,
    at_once: int = 1,
    packed: bool | None = None,
    inherit: Inheritance | None = None,
    **fields: Any,
) -> UserSearch:
    """The search of a space of architectures.

    Args:
      space: `cells`, `stacks` or one of a user's own.
      network: what cells are put into; of stacks the shape of an example.
      strategy, settings: of `strategies.table.STRATEGIES`.
      at_once: architectures of a round, asked for before any of them is known and trained side by
        side: a larger round is a less informed one.
      packed: one program for the whole space; None: where shapes allow.
      inherit: an architecture that grew out of one of an earlier round begins with its weights and
        trains ``inherit.further`` epochs, one at a time. None: each begins anew.
      fields: of `UserSearch`: ``workload`` or ``data``, ``trials``, ``budget``, ``fixed``, ...

    Raises:
      ValueError: one line: an unknown strategy or setting, a space that cannot be packed and is to
        be, a space without a legal architecture, ...
    """
    proposer = Architectures(space, network, strategy, dict(settings or {}), at_once, inherit)
    if inherit is not None:
        _check_inherits(inherit, fields)
    frames = proposer.frames if packed or packed is None else None
    if packed and frames is None:
        proposer.check_packable()
    given = {"name": "architectures", "question": "Which architecture is best?", **fields}
    slots = 2 ** int(math.log2(at_once)) if frames and inherit is None else 1
    return UserSearch(
        proposer.ranges,
        build=Builder(proposer, frames),
        proposer=proposer,
        weights=Weights(proposer, frames) if frames else None,
        slots=slots,
        **given,
    )


def _check_inherits(inherit: Inheritance, fields: Mapping[str, Any]) -> None:
    if inherit.further > fields.get("budget", 1):
        raise ValueError(
            f"inherit must train at most the budget, {fields.get('budget', 1)} epochs, "
            f"got {inherit.further}"
        )
    if fields.get("pruner", "none") != "none" or fields.get("patience") is not None:
        raise ValueError(
            "inherit needs pruner none and no patience: weights are those of a trial that has "
            "trained to its end"
        )


@dataclasses.dataclass(frozen=True)
class Architectures:
    """A space, what its architectures are put into, and who proposes them.

    Attributes:
      space, network, name, settings, at_once, inherit: as `architecture_search` takes them;
        ``name`` is the strategy's.
    """

    space: Space
    network: Skeleton | tuple[int, ...]
    name: str
    settings: Mapping[str, float]
    at_once: int = 1
    inherit: Inheritance | None = None

    def __post_init__(self) -> None:
        try:
            strategy(self.name, **self.settings)
        except TypeError:
            raise ValueError(
                f"settings {dict(self.settings)} are not those of the strategy {self.name}"
            ) from None
        if type(self.at_once) is not int or self.at_once < 1:
            raise ValueError(f"at_once must be a whole number from 1 on, got {self.at_once!r}")
        stream = _stream()
        code = self.space.sample(stream)  # refuses a space without a legal architecture
        if isinstance(self.network, Skeleton):
            for one in (code, *(self.space.sample(stream) for _ in range(CHECKED))):
                check_sizes(self.space.architecture(one), self.network)

    @property
    def adaptive(self) -> bool:
        """Tell whether a round waits for the results of those before."""
        return STRATEGIES[self.name].adaptive or self.inherit is not None

    @property
    def meaning(self) -> str:
        """A line that says who proposes."""
        return STRATEGIES[self.name].meaning

    @functools.cached_property
    def ranges(self) -> dict[str, Choice]:
        """Choice -> its options, as a record holds them."""
        return {name: Choice(_words(options)) for name, options in self.space.choices}

    @functools.cached_property
    def frames(self) -> Frames | None:
        """The frames of the space; None where it cannot be one program."""
        if self.space.codes > MOST_FRAMED or not isinstance(self.network, Skeleton):
            return None
        try:
            return self._frames()
        except NotPackableError:
            return None

    def _frames(self) -> Frames:
        frames = frames_of_space(self.space)
        if isinstance(self.network, Skeleton):
            check_shapes(frames, cell_shape(self.network))
        return frames

    def check_packable(self) -> None:
        """Say why the space cannot be one program.

        Raises:
          NotPackableError: one line.
        """
        if not isinstance(self.network, Skeleton):
            raise NotPackableError(
                "packed needs cells in a Skeleton: the layers of stacks differ in shape"
            )
        if self.space.codes > MOST_FRAMED:
            raise NotPackableError(
                f"packed needs a space of at most {MOST_FRAMED:,} codes, got {self.space.codes:,}"
            )
        self._frames()

    def code(self, values: Mapping[str, Value]) -> Code:
        """The code of recorded choices."""
        return tuple(r.values.index(values[name]) for name, r in self.ranges.items())

    def architecture(self, values: Mapping[str, Value]) -> Architecture:
        """The architecture of recorded choices."""
        return self.space.architecture(self.code(values))

    def describe(self) -> dict[str, Any]:
        """All that determines what is searched and proposed, as JSON values."""
        network = self.network
        fields = dataclasses.asdict(network) if isinstance(network, Skeleton) else {}
        if not fields.get("strided"):  # earlier records do not have it
            fields.pop("strided", None)
        shape = network.shape if isinstance(network, Skeleton) else network
        inherits = {} if self.inherit is None else {"inherit": dataclasses.asdict(self.inherit)}
        return {
            "space": space_to_json(self.space),
            "network": {**fields, "shape": list(shape)},
            "strategy": self.name,
            "settings": dict(self.settings),
            "at_once": self.at_once,
            "meaning": self.meaning,
            **inherits,
        }

    def following(self, started: int, trials: int) -> int:
        """Trials that the next round may have at most."""
        return min(self.at_once, trials - started)

    def propose(self, ask: Ask, sizes: Sequence[int]) -> Proposal:
        """The next round: a function of the seed and of the results of the rounds before.

        Args:
          ask: what is known.
          sizes: trials of every round so far.
        """
        known = [ScoredCode(self._code_at(ask, seen.point), _value(seen)) for seen in ask.of(ONE)]
        rounds, first = [], 0
        for size in sizes:
            rounds.append(known[first : first + size])
            first += size
        chosen = strategy(self.name, **self.settings)
        codes = rebuilt(chosen, self.space, ask.seed, rounds).ask(ask.counts[ONE])
        points = tuple(self._point(ask, code) for code in codes)
        return Proposal(
            {ONE: points},
            {ONE: ask.box(ONE)},
            {ONE: (self.name,) * len(points)},
            frozenset([ONE] if not points else []),
            {} if self.inherit is None else {ONE: self._parents(ask, codes)},
        )

    def _parents(self, ask: Ask, codes: Sequence[Code]) -> tuple[int | None, ...]:
        """The trial whose weights each begins with: of an earlier round, trained to its end."""
        trained = [
            TrainedArchitecture(
                seen.index, self.space.architecture(self._code_at(ask, seen.point)), seen.value
            )
            for seen in ask.of(ONE)
            if seen.outcome == "reached"
        ]
        return tuple(
            parent_of(self.space.architecture(code), trained, self.network) for code in codes
        )

    def _point(self, ask: Ask, code: Code) -> Point:
        chosen = dict(zip(self.ranges, code, strict=True))
        places = [self.ranges[name] for name in ask.names]
        return tuple(
            choice.position(choice.values[chosen[name]])
            for name, choice in zip(ask.names, places, strict=True)
        )

    def _code_at(self, ask: Ask, point: Point) -> Code:
        at = dict(zip(ask.names, point, strict=True))
        return self.code({name: choice.value(at[name]) for name, choice in self.ranges.items()})


@dataclasses.dataclass(frozen=True)
class Builder:
    """The module of recorded choices: the plain network, or the one program of all."""

    asked: Architectures
    frames: Frames | None

    def __call__(self, values: Mapping[str, Value]) -> Any:
        network = self.asked.network
        if not isinstance(network, Skeleton):
            graph = self.asked.architecture(values).graph("network")
            return resolve(f"{MODELS}:Stack")(graph, tuple(network))
        if self.frames is not None:
            return resolve(f"{MODELS}:Cells")(network, tuple(self.frames.items()))
        return resolve(f"{MODELS}:Cells")(network, self.asked.architecture(values).graphs)


@dataclasses.dataclass(frozen=True)
class Weights:
    """The weights that make the one program the architecture of recorded choices."""

    asked: Architectures
    frames: Frames

    def __call__(self, values: Mapping[str, Value]) -> dict[str, float]:
        return weights(self.frames, self.asked.architecture(values))


def _words(options: Sequence[object]) -> tuple[Any, ...]:
    """Options as a record's column holds them: all whole numbers, else all text."""
    if all(type(option) is int for option in options):
        return tuple(options)
    return tuple("none" if option is None else str(option) for option in options)


def _value(seen: Seen) -> float:
    return math.inf if seen.outcome == "infeasible" else seen.value


def _stream() -> Any:
    from experiments.search.architecture.streams import Stream

    return Stream("a legal architecture", 0)
