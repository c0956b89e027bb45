"""When: the learning rate as a unitless shape over a trial's steps."""

from schedules.base import Schedule, Setting

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

SCHEDULES: dict[str, Schedule] = {
    schedule.name: schedule
    for schedule in (
        Schedule("constant", "schedules.shapes:constant", (), "the peak rate throughout"),
        Schedule(
            "linear", "schedules.shapes:linear", (_END, _DECAY),
            "1 - (1 - alpha) t/T, then alpha",
        ),
    )
}  # fmt: skip
