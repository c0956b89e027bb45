"""The refit: every net that was chosen is trained once more, on the validation examples too.

The rule, that of auto-sklearn's ``refit`` and AutoGluon's ``refit_full``: validation has chosen
architectures, hyperparameters, epochs and weights, and these stay. A net that was best after e of R
epochs begins with the same initial weights and trains e epochs of the n' training and validation
examples in place of the n training examples: ceil(e n' / B) steps of a schedule of ceil(R n' / B),
the same share of it. Nothing is left to validate the result, so all validation numbers are those of
before. A net stays what it was where its refit diverges, or has a higher cross-entropy than before
on the validation examples, which it has learned by then.

Nets are trained side by side, one a thread, by the programs of the search, which are compiled for
both splits together: nothing is compiled again.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from experiments.diagnostics.ensemble_selection import cross_entropy
from experiments.procedures.automl.data import FOLDS, Examples
from experiments.procedures.automl.ending import Chosen, Finalist, validated
from experiments.procedures.automl.limits import EndingTime
from experiments.runner.predict import TrainedNet
from experiments.runner.search import SearchResult
from experiments.runtime.platform import cores


def refitted(
    found: SearchResult,
    best: Chosen,
    examples: Examples,
    time: EndingTime,
    *,
    workers: int | None = None,
) -> Chosen:
    """The choice, with its nets trained on training and validation examples where that fits.

    Args:
      found: the search.
      best: chosen among its trials.
      examples: its data.
      time: of the ending.
      workers: nets trained at a time; one a core where None.
    """
    if left_out := _left_out(best, examples, time):
        return dataclasses.replace(best, trained_on=left_out)
    count = examples.size("train") + examples.size("validation")
    trained = _trained(found, best.members, time, workers or cores())
    nets, kept = [], []
    for net, member, arrays in zip(best.predictor.nets, best.members, trained, strict=True):
        new = None if arrays is None else dataclasses.replace(
            net, params=arrays[0], state=arrays[1], examples=count
        )  # fmt: skip
        refused = _refused(new, member, examples, time)
        nets.append(net if new is None or refused else new)
        if refused:
            kept.append(f"; {net.name} is that of {net.examples:,} examples: {refused}")
    words = (
        f"{count:,} examples, training and validation together: once chosen, every net was trained "
        f"anew for as many epochs, {time.growth:.2f} times the steps; weights and validation "
        "numbers are those of before"
    )
    predictor = dataclasses.replace(best.predictor, nets=tuple(nets))
    return dataclasses.replace(best, predictor=predictor, trained_on="".join([words, *kept]))


def _left_out(best: Chosen, examples: Examples, time: EndingTime) -> str:
    """Words on the examples of the nets and on why there is no refit; none where there is one."""
    count = examples.size("train")
    if examples.folds is not None:
        return f"{count:,} examples: of a trial's {FOLDS} nets each on all folds but its own"
    alone = f"{count:,} training examples; no net was trained again on validation examples too"
    if not examples.refits:
        return f"{alone}: the training split is larger than what lies on the device"
    if not time.growth:
        return f"{alone}: that may take more time than the ending has, of one net alone"
    seconds = time.refit_seconds(sum(member.seconds for member in best.members))
    if seconds > time.left:
        return f"{alone}: that may take {seconds:.1f} s, and {max(0.0, time.left):.1f} s are left"
    return ""


def _trained(
    found: SearchResult, members: Sequence[Finalist], time: EndingTime, workers: int
) -> list[tuple[Any, Any] | None]:
    """(params, state) of each, on the host; None where it diverged or its time was over."""
    ended = threading.Event()

    def goes_on(steps: int) -> bool:
        del steps
        return time.left > 0 and not ended.is_set()

    def one(member: Finalist) -> tuple[Any, Any] | None:
        arrays: tuple[Any, Any] | None = jax.device_get(found.refitted(member.trial, goes_on))
        return arrays

    with ThreadPoolExecutor(workers, "refit") as pool:
        try:
            return list(pool.map(one, members))
        except BaseException:
            ended.set()
            raise


def _refused(new: TrainedNet | None, member: Finalist, examples: Examples, time: EndingTime) -> str:
    """The reason for which a net stays what it was; empty where it does not."""
    if new is None:
        return "its refit diverged" if time.left > 0 else "the time was over"
    now = cross_entropy(validated(new, examples), examples.splits["validation"][1])
    if now <= member.cross_entropy:
        return ""
    return (
        f"its refit has a cross-entropy of {now:.3g} on the validation examples that it has "
        f"learned, above {member.cross_entropy:.3g} before"
    )
