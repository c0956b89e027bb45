"""The terminal while a study runs: a bar, what trains, how long it will still take."""

from __future__ import annotations

import contextlib
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

from experiments.spec.fields import StudyFields
from experiments.spec.study import resolve

PLAIN_SECONDS = 15.0


@contextlib.contextmanager
def shown_progress(study: StudyFields) -> Iterator[Callable[[Any], None]]:
    """An observer for `run_study`: a live bar on a terminal, a line now and then elsewhere.

    The study's name and question come first, once its input has been checked.
    """
    header = _header(study)
    if sys.stdout.isatty():
        yield from _bar(header)
    else:
        yield _plain(header)


def _header(study: StudyFields) -> str:
    from experiments.planning.curvature import curvature_cost

    sizes = resolve(study).batch_sizes
    width = shutil.get_terminal_size().columns
    what = (
        f"{len(sizes)} batch sizes from {sizes[0]} to {sizes[-1]}, {study.trials} trials each, "
        f"{study.optimizer} on {study.workload.name}"
    )
    lines = [f"{study.name}: {study.question}", what]
    if cost := curvature_cost(resolve(study)):
        lines.append(cost)
    filled = [textwrap.fill(line, width) for line in lines]
    return "\n".join([*filled, *_brackets(study)])


def _brackets(study: StudyFields) -> list[str]:
    """A line a population of the study's pruner: its trials, and to which parts they train."""
    from experiments.search.fidelity import Pruner, table

    pruner = Pruner.of(resolve(study))
    if pruner is None:
        return []
    rows = table(pruner, study.trials)
    lines = [f"{pruner.name} (trials @ {pruner.resource}ths of the length):"]
    lines += [f"  {number}: {size:>4} trials: {rungs}" for number, size, rungs in rows]
    if left := study.trials - sum(size for _, size, _ in rows):
        lines.append(f"  the next bracket does not fit into the {left} trials that are left")
    return lines


def _text(progress: Any) -> str:
    if not progress.wanted:
        return progress.phase
    counts = f"{progress.complete}/{progress.wanted} trials"
    if progress.infeasible:
        counts += f", {progress.infeasible} infeasible"
    running = " ".join(map(str, progress.running))
    return f"{counts}; batch size {running}" if running else counts


def duration(seconds: float | None) -> str:
    """Time left in words; "" where it is not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min left"
    return f"{minutes} min {rest:02d} s left" if minutes else f"{rest} s left"


def _bar(header: str) -> Iterator[Callable[[Any], None]]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]:>14}"),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("starting", total=1.0, left="")
        headers = [header]

        def observe(progress: Any) -> None:
            if progress.checked and headers:
                bar.console.print(headers.pop(), markup=False, highlight=False)
            bar.update(
                task,
                description=_text(progress),
                completed=progress.share,
                left=duration(progress.remaining_seconds),
            )

        yield observe


def _plain(header: str) -> Callable[[Any], None]:
    last = [float("-inf"), ""]
    headers = [header]

    def observe(progress: Any) -> None:
        if not progress.checked:
            return
        if headers:
            print(headers.pop(), flush=True)
        now = time.monotonic()
        if progress.phase != last[1] or now - last[0] > PLAIN_SECONDS:  # type: ignore[operator]
            last[:] = [now, progress.phase]
            left = duration(progress.remaining_seconds)
            line = f"  {progress.share:4.0%}  {_text(progress)}" + (f"; {left}" if left else "")
            print(line, flush=True)

    return observe
