"""The tables of schedules: name, shape, settings with defaults and search spaces."""

from __future__ import annotations

from schedules.base import MomentumSchedule, Schedule, Setting

_END = Setting(
    "end_learning_rate_factor", 0.01, 0.0, 1.0,
    {"type": "real", "low": 1e-4, "high": 0.1, "scale": "log"},
    "alpha: final rate as a share of the peak",
)  # fmt: skip
_DECAY = Setting(
    "decay_steps_factor", 1.0, 1e-6, 1.0,
    {"type": "real", "low": 0.5, "high": 1.0, "scale": "linear"},
    "T / train_steps: the share of the trial over which the rate decays",
)  # fmt: skip
_FACTOR = Setting(
    "decay_factor", 0.1, 1e-6, 1.0,
    {"type": "real", "low": 0.05, "high": 0.5, "scale": "log"},
    "f: the rate after a drop over the rate before",
)  # fmt: skip
_RATE = Setting(
    "decay_rate", 5.0, 0.0, 1e6,
    {"type": "real", "low": 0.5, "high": 50.0, "scale": "log"},
    "k, per trial",
)  # fmt: skip


def _milestone(number: int, default: float) -> Setting:
    return Setting(
        f"milestone_{number}", default, 1e-6, 1.0, None, f"drop {number}, as a share of the trial"
    )


PLATEAU: tuple[Setting, ...] = (
    Setting(
        "plateau_factor", 0.5, 1e-6, 1.0,
        {"type": "real", "low": 0.1, "high": 0.7, "scale": "log"}, "rate after a cut over before",
    ),
    Setting("patience_steps", 1000.0, 1.0, 1e9, None, "steps without a better value before a cut"),
    Setting("least_multiplier", 1e-3, 0.0, 1.0, None, "the multiplier never falls below this"),
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
            (_END, _DECAY, Setting(
                "power", 2.0, 1e-3, 10.0,
                {"type": "real", "low": 0.5, "high": 4.0, "scale": "log"}, "p")),
            "alpha + (1 - alpha) (1 - t/T)^p, then alpha",
        ),
        Schedule(
            "step_decay", "schedules.shapes:step_decay",
            (_FACTOR, Setting(
                "interval_factor", 0.25, 1e-6, 1.0,
                {"type": "real", "low": 0.1, "high": 0.5, "scale": "linear"},
                "I / train_steps: share of the trial between drops")),
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
            (Setting(
                "timescale_steps", 1000.0, 1.0, 1e9,
                {"type": "real", "low": 10.0, "high": 1e4, "scale": "log"}, "s, in steps"),),
            "sqrt(s / (s + t))",
        ),
        Schedule(
            "warmup_stable_decay", "schedules.shapes:warmup_stable_decay",
            (_END, Setting(
                "decay_fraction", 0.2, 1e-6, 1.0,
                {"type": "real", "low": 0.05, "high": 0.5, "scale": "log"},
                "d, share of the trial spent decaying")),
            "1, then linear to alpha over the last d T steps",
        ),
        Schedule(
            "plateau", "schedules.plateau:shape", PLATEAU,
            "the peak rate, times f where validation has not improved for the patience", True,
        ),
    )
}  # fmt: skip

MOMENTUM_SCHEDULES: dict[str, MomentumSchedule] = {
    schedule.name: schedule
    for schedule in (
        MomentumSchedule("constant", "schedules.momentum:constant", (), "mu throughout"),
        MomentumSchedule(
            "annealed", "schedules.momentum:annealed",
            (Setting("initial_momentum", 0.5, 0.0, 0.999999, None, "mu_0"),
             Setting("anneal_steps_factor", 0.5, 1e-6, 1.0, None,
                     "share of the trial over which the momentum rises")),
            "linear from mu_0 to mu",
        ),
        MomentumSchedule(
            "sutskever", "schedules.momentum:sutskever",
            (Setting("momentum_period_steps", 250.0, 1.0, 1e9, None, "P, in steps"),),
            "min(1 - 1 / (2 (floor(t/P) + 1)), mu)",
        ),
    )
}  # fmt: skip
