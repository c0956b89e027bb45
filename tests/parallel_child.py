"""What eight simulated devices do, as JSON: run in a process of its own by the tests."""

from __future__ import annotations

import json

from parallel_factory import apart, difference, mixed_program, trained

from experiments.training.parallel import Layout

ALONE = {
    **{f"pmap {count}": Layout("pmap", data=count) for count in (2, 3, 4, 8)},
    "shard_map 8": Layout("shard_map", data=8),
    "micro-batches": Layout("shard_map", data=2, micro_batch=8),
}
"""One trial over several devices."""
PACKS = {
    "trials 4, data 2": (Layout("shard_map", 4, 2), 4),
    "trials 2": (Layout("shard_map", 2), 4),
}
"""Six trials in fewer slots; the last two have two slots to a group of devices."""


def main() -> None:
    """Prints layout -> (difference of measurements, of the final state)."""
    program = mixed_program()
    expected, state = trained(program)
    found = {}
    for name, layout in ALONE.items():
        results, end = trained(program, layout)
        found[name] = (apart(results, expected), difference(end, state))
    several, _ = trained(program, trials=6)
    for name, (layout, slots) in PACKS.items():
        results, _ = trained(program, layout, slots, 6, "packed")
        found[name] = (apart(results, several), 0.0)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
