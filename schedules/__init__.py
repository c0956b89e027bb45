"""Schedules of the learning rate, a unitless shape of the step; of momentum and batch size too."""

from schedules.base import MomentumSchedule, Schedule
from schedules.batch_size import BATCH_SIZE_SCHEDULES
from schedules.table import MOMENTUM_SCHEDULES, PLATEAU, SCHEDULES

__all__ = [
    "BATCH_SIZE_SCHEDULES",
    "MOMENTUM_SCHEDULES",
    "PLATEAU",
    "SCHEDULES",
    "MomentumSchedule",
    "Schedule",
]
