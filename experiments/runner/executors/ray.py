"""Ray Core tasks, one pack of trials a task: many workers on many machines, one coordinator.

A task carries all it needs: the study, the text of a user's files, how to train, the trials. It
keeps nothing, so that Ray may run it again wherever a worker or a machine was lost; it ends with
the same bits. The data are loaded where the task runs, and must be those of the study.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pickle
import secrets
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.runner.executors import Job, Jobs, Unfinished
from experiments.runtime import platform
from experiments.runtime.compilation import switched
from experiments.runtime.memory import out_of_memory
from experiments.runtime.stopping import Stop
from experiments.spec.errors import StudyError, first_line, in_one_line
from experiments.spec.loading import load_text, texts_of_files
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import RecordNorms, Trial, TrialResult
from experiments.training.feed import ResidentData
from experiments.training.population import Population
from experiments.training.program import Program

RESOURCES = ("cpus", "gpus", "tpus")
_POLL_SECONDS = 0.2
_CONNECT_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A cluster to run tasks on, and the share of a machine that each takes.

    Attributes:
      address: of a cluster that runs, "HOST:PORT" or "auto"; None starts one on this machine,
        reached from this machine alone, and ends it afterwards.
      resources: of a task, by the names of `RESOURCES`; one CPU where nothing is said.

    Raises:
      ValueError: an unknown resource, a number below 0, or Ray is not installed.
    """

    address: str | None = None
    resources: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, number in self.resources.items():
            if name not in RESOURCES or not 0 <= number < float("inf"):
                raise ValueError(
                    f"a task's resources are {', '.join(RESOURCES)}, each a number of at least 0, "
                    f"got {name}={number:g}"
                )

    @property
    def options(self) -> dict[str, Any]:
        """The same as Ray names it; a lost task starts again as often as it is lost."""
        own = {"num_cpus": self.resources.get("cpus", 1), "max_retries": -1}
        own["num_gpus"] = self.resources.get("gpus", 0)
        tpus = self.resources.get("tpus", 0)
        return {**own, "resources": {"TPU": tpus}} if tpus else own

    def tasks_at_a_time(self) -> int:
        """As many tasks as the cluster's resources hold now, at least one."""
        import ray

        held, names = ray.cluster_resources(), {"cpus": "CPU", "gpus": "GPU", "tpus": "TPU"}
        asked = {"cpus": 1.0, **self.resources}
        return max(1, *(0, min(int(held.get(names[n], 0) // k) for n, k in asked.items() if k)))


@contextlib.contextmanager
def connected(cluster: Cluster) -> Iterator[None]:
    """Within, this process speaks to the cluster; one that it did not start is left as it is.

    Raises:
      ValueError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError("--executor ray needs Ray: pip install 'batchscale[cluster]'") from error

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    with (
        tempfile.TemporaryDirectory(prefix="batchscale-ray-") as private,
        warnings.catch_warnings(),
    ):
        handler = signal.getsignal(signal.SIGTERM)
        try:
            if cluster.address is not None:
                _check_listening(cluster.address)
                ray.init(address=cluster.address, **quiet)
            else:
                _ask_for_a_token(Path(private))
                # Ray's processes begin by a fork that executes another program at once.
                warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
                ray.init(
                    address="local",
                    num_cpus=platform.cores(),
                    include_dashboard=False,
                    _node_ip_address="127.0.0.1",
                    **quiet,
                )
        except Exception as error:  # Ray raises whatever it met
            raise ValueError(
                f"--ray-address {cluster.address or 'local'} does not answer: {first_line(error)}"
            ) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray's own would end this process at once
        try:
            yield
        finally:
            ray.shutdown()  # of a cluster that runs: leaves it


def _check_listening(address: str) -> None:
    """Find out in seconds whether anybody listens: Ray itself tries for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        raise ValueError("it must be HOST:PORT, or auto")
    with socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS):
        pass


def _ask_for_a_token(folder: Path) -> None:
    """Let nobody else on this machine run code in the cluster, unless the user said how it is."""
    if "RAY_AUTH_MODE" not in os.environ:
        path = folder / "token"
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)


@dataclasses.dataclass(frozen=True)
class Setting:
    """The part of a study that every task is given.

    Attributes:
      study: `ResolvedStudy`, pickled: what it names in a user's files is found once they are
        loaded.
      files: name and text of the user's files.
      checksum: of the dataset.
      record_norms: as the plan says.
      data_dir: where a worker finds the dataset's files, if not in the usual places.
      stream: as `run_study` has it.
    """

    study: bytes
    files: tuple[tuple[str, bytes], ...]
    checksum: str
    record_norms: RecordNorms
    data_dir: str | None
    stream: bool | None

    @classmethod
    def of(cls, study: ResolvedStudy, checksum: str, **how: Any) -> Setting:
        """Of a study in this process."""
        return cls(pickle.dumps(study), texts_of_files(study.code), checksum, **how)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The end of a pack: results; where it failed, the trials under way and the error."""

    results: Sequence[TrialResult]
    unfinished: Unfinished = dataclasses.field(default_factory=Unfinished)
    error: BaseException | None = None


def train_pack(setting: Setting, job: Job, trials: Sequence[Trial]) -> Outcome:
    """Train trials of one batch size to their ends, in this process."""
    study = _study(setting)
    with switched(study.precision.float64):
        results: list[TrialResult] = []
        waiting = iter(trials)
        population: Population | None = None
        try:
            population = Population(
                _program(setting),
                job.batch_size,
                job.execution,
                grid=study.grid,
                plan=job.plan,
                phases=study.phases(job.batch_size),
            )
            population.run(lambda: next(waiting, None), results.append)
        except Exception as error:  # noqa: BLE001 (a user's model may raise anything)
            begun = Unfinished(population.trials) if population else Unfinished()
            return Outcome(results, begun, _portable(error))
        return Outcome(results)


def _portable(error: Exception) -> BaseException:
    """An exception that another process can read."""
    if out_of_memory(error):
        return MemoryError(in_one_line(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 (a user's class may refuse in any way)
        return StudyError(in_one_line(error))
    return error


@functools.lru_cache(maxsize=4)
def _study(setting: Setting) -> ResolvedStudy:
    for name, text in setting.files:
        load_text(name, text)
    found = pickle.loads(setting.study)
    assert isinstance(found, ResolvedStudy)
    return found


@functools.lru_cache(maxsize=1)
def _program(setting: Setting) -> Program:
    """The study's programs, compiled once a worker; its data are checked and put once."""
    from experiments.runner.planning import programs_of
    from workloads import datasets

    study = _study(setting)
    dataset = datasets.load(
        study.workload.dataset, setting.data_dir, **study.workload.dataset_options
    )
    if dataset.checksum != setting.checksum:
        raise StudyError(
            f"the dataset {dataset.name} of {socket.gethostname()} is another than the study's: "
            f"checksum {dataset.checksum[:12]}, not {setting.checksum[:12]}"
        )
    data = ResidentData.put(dataset.splits, study.train_evaluation_examples, setting.stream)
    return programs_of(study, data, Stop())(setting.record_norms)


class RayTasks:
    """The `Executor` of a cluster: threads here, each of which waits for one task at a time.

    Args:
      setting: what every task is given.
      cluster: `connected`.
    """

    def __init__(self, setting: Setting, cluster: Cluster):
        self._setting, self._cluster = setting, cluster
        self._threads: list[threading.Thread] = []

    def start(self, jobs: Jobs, workers: int) -> None:
        """Put the setting where every task finds it, and start the threads."""
        import ray

        setting = ray.put(self._setting)
        task = ray.remote(train_pack).options(**self._cluster.options)
        for i in range(workers):
            name = f"task-{i}"
            given = (jobs, task, setting)
            thread = threading.Thread(target=self._work, args=given, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    @property
    def working(self) -> bool:
        """Tell whether a thread has not ended."""
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        """Wait for all threads."""
        for thread in self._threads:
            thread.join()

    def _work(self, jobs: Jobs, task: Any, setting: Any) -> None:
        try:
            while (job := jobs.claim()) is not None:
                while trials := _pack(job, jobs):
                    if not self._train(task, setting, job, trials, jobs):
                        break
                else:
                    jobs.left(job, Unfinished())
        except BaseException as error:  # noqa: BLE001 (the coordinator raises it again)
            jobs.died(error)

    def _train(
        self, task: Any, setting: Any, job: Job, trials: Sequence[Trial], jobs: Jobs
    ) -> bool:  # fmt: skip
        """Train one pack; False where the job was left."""
        outcome = _outcome(task.remote(setting, job, trials), job, jobs)
        if outcome is None:
            jobs.left(job, Unfinished(trials))
            return False
        going = jobs.advanced(job, sum(result.steps for result in outcome.results))
        for result in outcome.results:
            jobs.ended(result)
        if outcome.error is not None:
            ended = {result.trial for result in outcome.results}
            begun = set(outcome.unfinished.trials)
            jobs.left(job, Unfinished([t for t in trials if t not in ended | begun]))
            jobs.failed(job, outcome.unfinished, outcome.error)
            return False
        if not going:
            jobs.left(job, Unfinished())
        return going


def _pack(job: Job, jobs: Jobs) -> list[Trial]:
    """As many trials as the job has slots, fewer where fewer may start now."""
    trials: list[Trial] = []
    while len(trials) < job.execution.slots and (trial := jobs.next_trial(job)) is not None:
        trials.append(trial)
    return trials


def _outcome(reference: Any, job: Job, jobs: Jobs) -> Outcome | None:
    """The outcome that a task returns; None where it is not wanted any more.

    Raises:
      StudyError: the cluster was lost.
    """
    import ray

    try:
        while not ray.wait([reference], timeout=_POLL_SECONDS)[0]:
            if not jobs.advanced(job, 0):
                ray.cancel(reference, force=True)
                return None
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        raise StudyError(
            f"the Ray cluster was lost ({first_line(error)}); the same command goes on"
        ) from error
    return outcome
