"""``batchscale plan`` of a search for an architecture: sizes, and whether packing pays."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.search.architecture.question import Architectures
    from experiments.spec.user_search import UserSearch

SAMPLED = 200
"""Architectures that a space is described by."""


def plan_architectures(asked: UserSearch, data_dir: str | None) -> dict[str, Any]:
    """Print the plan; returns it as JSON values."""
    from experiments.planning.architectures import framed_cost, network_cost
    from experiments.search.architecture.question import Architectures
    from experiments.search.architecture.streams import Stream
    from workloads.architectures import Skeleton

    proposer = asked.proposer
    if not isinstance(proposer, Architectures):
        raise ValueError(f"{asked.name} has no batch sizes to plan")  # noqa: TRY004 (bad input)
    space, network = proposer.space, proposer.network
    stream = Stream("plan", asked.seed)
    drawn = [space.architecture(space.sample(stream)) for _ in range(SAMPLED)]
    costs = [network_cost(one, network) for one in drawn]
    found: dict[str, Any] = {"codes": space.codes}
    for name in ("parameters", "flops"):
        values = sorted(getattr(cost, name) for cost in costs)
        found[name] = [values[0], values[len(values) // 2], values[-1]]
    print(f"{asked.name}: {space.name}, {space.codes:,} codes; of {SAMPLED} drawn:")
    print("  parameters {:,} to {:,}, median {:,}".format(*_ends(found["parameters"])))
    print("  FLOPs an example, forward, {:,} to {:,}, median {:,}".format(*_ends(found["flops"])))
    if proposer.frames is None or not isinstance(network, Skeleton):
        try:
            proposer.check_packable()
        except ValueError as error:
            print(f"one program for the whole space: not here: {error}")
        return {**found, "packing": None}
    one = framed_cost(proposer.frames, network)
    mean = sum(cost.flops for cost in costs) / len(costs)
    packing = _packing(asked, proposer, data_dir, one.flops / mean)
    print(packing)
    return {**found, "packing": dataclasses.asdict(packing), "pays": packing.pays}


def _ends(values: list[int]) -> tuple[int, int, int]:
    return values[0], values[2], values[1]


def _packing(asked: UserSearch, proposer: Architectures, data_dir: str | None, flops: float) -> Any:
    """Measure both ways: the architecture of median size plainly, and a pack of the one program."""
    from experiments.planning.packing import PROBE_STEPS, Packing, paced
    from experiments.runner.search_asked import task_of
    from experiments.runner.search_models import steps_of_epochs
    from experiments.search.architecture.question import Builder, Weights
    from experiments.search.architecture.streams import Stream
    from experiments.spec.trial import Trial
    from experiments.training.layout import SCAN, Execution

    task, _ = task_of(asked, data_dir)
    stream = Stream("plan", asked.seed)
    slots = asked.slots if asked.slots > 1 else 8
    values = []
    for _ in range(slots):
        code = proposer.space.sample(stream)
        chosen = zip(proposer.ranges.items(), code, strict=True)
        values.append({name: choice.values[i] for (name, choice), i in chosen})
    weights = Weights(proposer, proposer.frames or {})
    numbers = task.numbers({})

    def trial(index: int, packed: bool) -> Trial:
        own = {**numbers, **(weights(values[index]) if packed else {})}
        return Trial(asked.batch_size, asked.seed, index, PROBE_STEPS, own, "plan")

    plain = paced(
        task.program(Builder(proposer, None)(values[0]), values[0]), [trial(0, False)], SCAN
    )
    packed = paced(
        task.program(Builder(proposer, proposer.frames)(values[0]), values[0]),
        [trial(i, True) for i in range(slots)],
        Execution("packed", slots) if slots > 1 else SCAN,
    )
    steps = steps_of_epochs(asked.budget, task.data.examples, asked.batch_size)
    return Packing(plain, packed, asked.trials or 20, steps, flops)
