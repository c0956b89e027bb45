"""The tables of schedules: name, shape, settings with defaults and search spaces."""

from __future__ import annotations

from schedules.base import MomentumSchedule, Schedule
from workloads.registry import Hyperparameter

_END = Hyperparameter(
    "end_learning_rate_factor", 0.01, 0.0, 1.0,
    space={"type": "real", "low": 1e-4, "high": 0.1, "scale": "log"},
    meaning="alpha: final rate as a share of the peak",
)  # fmt: skip
_DECAY = Hyperparameter(
    "decay_steps_factor", 1.0, 1e-6, 1.0,
    space={"type": "real", "low": 0.5, "high": 1.0, "scale": "linear"},
    meaning="T / train_steps: the share of the trial over which the rate decays",
)  # fmt: skip
_FACTOR = Hyperparameter(
    "decay_factor", 0.1, 1e-6, 1.0,
    space={"type": "real", "low": 0.05, "high": 0.5, "scale": "log"},
    meaning="f: the rate after a drop over the rate before",
)  # fmt: skip
_RATE = Hyperparameter(
    "decay_rate", 5.0, 0.0, 1e6,
    space={"type": "real", "low": 0.5, "high": 50.0, "scale": "log"},
    meaning="k, per trial",
)  # fmt: skip


def _milestone(number: int, default: float) -> Hyperparameter:
    return Hyperparameter(
        f"milestone_{number}", default, 1e-6, 1.0, meaning=f"drop {number}, as a share of the trial"
    )


PLATEAU: tuple[Hyperparameter, ...] = (
    Hyperparameter(
        "plateau_factor", 0.5, 1e-6, 1.0,
        space={"type": "real", "low": 0.1, "high": 0.7, "scale": "log"},
        meaning="rate after a cut over before",
    ),
    Hyperparameter(
        "patience_steps", 1000.0, 1.0, 1e9, meaning="steps without a better value before a cut"),
    Hyperparameter(
        "least_multiplier", 1e-3, 0.0, 1.0, meaning="the multiplier never falls below this"),
)  # fmt: skip
"""Settings of `schedules.plateau.observe`."""


SCHEDULES: dict[str, Schedule] = {
    schedule.name: schedule
    for schedule in (
        Schedule("constant", "schedules.shapes:constant", (), "the peak rate throughout"),
        Schedule(
            "linear", "schedules.shapes:linear", (_END, _DECAY),
            "1 - (1 - alpha) t/T, then alpha",
        ),
        Schedule(
            "cosine", "schedules.shapes:cosine", (_END, _DECAY),
            "alpha + (1 - alpha) (1 + cos(pi t/T)) / 2, then alpha",
        ),
        Schedule(
            "polynomial", "schedules.shapes:polynomial",
            (_END, _DECAY, Hyperparameter(
                "power", 2.0, 1e-3, 10.0,
                space={"type": "real", "low": 0.5, "high": 4.0, "scale": "log"}, meaning="p")),
            "alpha + (1 - alpha) (1 - t/T)^p, then alpha",
        ),
        Schedule(
            "step_decay", "schedules.shapes:step_decay",
            (_FACTOR, Hyperparameter(
                "interval_factor", 0.25, 1e-6, 1.0,
                space={"type": "real", "low": 0.1, "high": 0.5, "scale": "linear"},
                meaning="I / train_steps: share of the trial between drops")),
            "f^floor(t / I)",
        ),
        Schedule(
            "staircase", "schedules.shapes:staircase",
            (_FACTOR, _milestone(1, 1 / 3), _milestone(2, 2 / 3), _milestone(3, 8 / 9)),
            "f^(milestones passed)",
        ),
        Schedule("exponential", "schedules.shapes:exponential", (_RATE,), "exp(-k t/T)"),
        Schedule("inverse_time", "schedules.shapes:inverse_time", (_RATE,), "1 / (1 + k t/T)"),
        Schedule(
            "inverse_sqrt", "schedules.shapes:inverse_sqrt",
            (Hyperparameter(
                "timescale_steps", 1000.0, 1.0, 1e9,
                space={"type": "real", "low": 10.0, "high": 1e4, "scale": "log"},
                meaning="s, in steps"),),
            "sqrt(s / (s + t))",
        ),
        Schedule(
            "warmup_stable_decay", "schedules.shapes:warmup_stable_decay",
            (_END, Hyperparameter(
                "decay_fraction", 0.2, 1e-6, 1.0,
                space={"type": "real", "low": 0.05, "high": 0.5, "scale": "log"},
                meaning="d, share of the trial spent decaying")),
            "1, then linear to alpha over the last d T steps",
        ),
        Schedule(
            "plateau", "schedules.plateau:shape", PLATEAU,
            "the peak rate, times f where validation has not improved for the patience",
            metric_driven=True,
        ),
    )
}  # fmt: skip

MOMENTUM_SCHEDULES: dict[str, MomentumSchedule] = {
    schedule.name: schedule
    for schedule in (
        MomentumSchedule("constant", "schedules.momentum:constant", (), "mu throughout"),
        MomentumSchedule(
            "annealed", "schedules.momentum:annealed",
            (Hyperparameter("initial_momentum", 0.5, 0.0, 0.999999, meaning="mu_0"),
             Hyperparameter(
                "anneal_steps_factor", 0.5, 1e-6, 1.0,
                meaning="share of the trial over which the momentum rises")),
            "linear from mu_0 to mu",
        ),
        MomentumSchedule(
            "sutskever", "schedules.momentum:sutskever",
            (Hyperparameter("momentum_period_steps", 250.0, 1.0, 1e9, meaning="P, in steps"),),
            "min(1 - 1 / (2 (floor(t/P) + 1)), mu)",
        ),
    )
}  # fmt: skip
