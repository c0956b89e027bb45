"""How often the verdict's checks raise an alarm on sound records: 500 of tests/support.

    python -m benchmarks.verdict_alarms

A sound record: three to six searches of twelve trials at three batch sizes whose curves settle
within the first quarter of training, the optimum in the middle third of the range, divergence
beyond 6 to 20 times the best rate. Counts say how often a check is raised where it should not be.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from benchmarks.machine import write_results

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support.verdict_records import sound

from experiments.analysis.checks import CHECKS, check_name, checks_of
from experiments.analysis.summary import summarise


def main() -> None:
    """Count and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=500)
    options = parser.parse_args()
    raised: Counter[str] = Counter()
    clean = 0
    for seed in range(options.records):
        summary = summarise(sound(seed))
        found = {check.check for check in checks_of(summary.question, summary.verdict)}
        raised.update(found)
        clean += not found
    names = sorted(check_name(type(name, (), {})) for name in CHECKS)
    counts = {name: raised[name] for name in names}
    result = {"records": options.records, "clean": clean, "raised": counts}
    print(json.dumps(result, indent=2))
    print(write_results("verdict_alarms", result))


if __name__ == "__main__":
    main()
