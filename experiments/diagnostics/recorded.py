"""The measurements that a study records beside its metrics."""

from __future__ import annotations

from experiments.diagnostics.curvature_in_training import curvature_of
from experiments.diagnostics.gradient_noise import noise_of
from experiments.spec.resolved import ResolvedStudy
from experiments.training.computation import Measurement
from experiments.training.feed import ResidentData


def recorded_measurements(study: ResolvedStudy, data: ResidentData) -> tuple[Measurement, ...]:
    """All that the study asks for: the gradient's noise, the curvature; none where it asks none."""
    return (*noise_of(study, data), *curvature_of(study, data))
