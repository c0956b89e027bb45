"""REINFORCE (Williams 1992) with one independent categorical distribution a choice.

    pi(code) = prod_c softmax(logits_c)[code_c]
    loss = -(R - b) log pi(code) - entropy H(pi),    R = -value

minimised by Adam, a step an architecture; b is an exponential moving average of the rewards,
debiased. Logits begin at 1e-3 N(0, 1). NATS-Bench (Dong et al. 2021) has a rate of 0.01: Adam then
moves a logit by at most about 1 in 100 architectures, and the search is a random one; ours is 0.1.
The result of a search is the best architecture seen, not the policy's mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.search.architecture.space import DRAWS, Code, Space
from experiments.search.architecture.strategies.base import Fresh, History, ScoredCode, Strategy
from experiments.search.architecture.streams import Stream

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Policy(NamedTuple):
    """State of the controller; arrays are float64 [choices, most options].

    Attributes:
      logits: minus infinity where a choice has no such option.
      first, second: Adam's moments.
      baseline: average of rewards, biased to 0.
      steps: rewards seen.
      worst: least finite reward; what failed is taken to be as bad.
    """

    logits: np.ndarray
    first: np.ndarray
    second: np.ndarray
    baseline: float
    steps: int
    worst: float


def reinforce(rate: float = 0.1, decay: float = 0.9, entropy: float = 0.0) -> Strategy:
    """A controller with Adam's learning rate, the baseline's decay and an entropy bonus.

    Raises:
      ValueError: a rate or entropy below 0, or a decay outside [0, 1).
    """
    if not (rate >= 0 and entropy >= 0 and 0 <= decay < 1):
        raise ValueError(
            "rate and entropy are at least 0 and decay lies in [0, 1), got "
            f"{rate}, {entropy} and {decay}"
        )

    def observe(policy: Policy, history: History, results: Sequence[ScoredCode]) -> Policy:
        del history
        for result in results:
            policy = _updated(policy, result, rate, decay, entropy)
        return policy

    return Strategy(_begin, _propose, observe)


def _begin(space: Space, seed: int) -> Policy:
    sizes = np.array(space.sizes)
    stream = Stream("reinforce logits", seed)
    logits = np.full((len(sizes), int(sizes.max(initial=1))), -np.inf)
    for choice, size in enumerate(sizes):
        for option in range(size):
            radius = math.sqrt(-2.0 * math.log(1.0 - stream.uniform()))  # Box and Muller
            logits[choice, option] = 1e-3 * radius * math.cos(2.0 * math.pi * stream.uniform())
    zeros = np.zeros_like(logits)
    return Policy(logits, zeros, zeros, 0.0, 0, math.inf)


def probabilities(policy: Policy) -> np.ndarray:
    """[choices, most options]; 0 where a choice has no such option."""
    weights = np.exp(policy.logits - policy.logits.max(1, keepdims=True))
    result: np.ndarray = weights / weights.sum(1, keepdims=True)
    return result


def _propose(policy: Policy, history: History, count: int) -> list[Code]:
    fresh, stream = Fresh(history, count), history.stream("reinforce")
    cumulated = np.cumsum(probabilities(policy), 1)
    last = np.array(history.space.sizes) - 1
    for _ in range(DRAWS):
        if fresh.full:
            break
        drawn = np.array([stream.uniform() for _ in last])
        chosen = np.minimum((cumulated <= drawn[:, None]).sum(1), last)
        fresh.offer(tuple(int(option) for option in chosen))
    return fresh.fill(stream)


def _updated(
    policy: Policy, result: ScoredCode, rate: float, decay: float, entropy: float
) -> Policy:
    reward = -result.value
    worst = min(policy.worst, reward) if math.isfinite(reward) else policy.worst
    if not math.isfinite(reward):
        if not math.isfinite(worst):  # nothing to compare with yet
            return policy
        reward = worst
    steps = policy.steps + 1
    baseline = decay * policy.baseline + (1 - decay) * reward
    advantage = reward - baseline / (1 - decay**steps)
    p = probabilities(policy)
    chosen = np.zeros_like(p)
    chosen[np.arange(len(p)), result.code] = 1.0
    gradient = -advantage * (chosen - p)
    if entropy:
        log_p = np.log(np.where(p > 0, p, 1.0))
        gradient += entropy * p * (log_p - (p * log_p).sum(1, keepdims=True))
    first = BETA1 * policy.first + (1 - BETA1) * gradient
    second = BETA2 * policy.second + (1 - BETA2) * gradient**2
    scale = np.sqrt(second / (1 - BETA2**steps)) + EPSILON
    logits = policy.logits - rate * first / (1 - BETA1**steps) / scale
    return Policy(logits, first, second, baseline, steps, worst)
