"""A Ray cluster that is started or joined: behind a token, and left as it was found."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.runtime import platform
from experiments.runtime.stderr import nothing_on_stderr
from experiments.spec.errors import first_line

RESOURCES = ("cpus", "gpus", "tpus")
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
      ValueError: Ray is not installed, nothing answers at the address, or a token is refused.
    """
    if cluster.address is None:
        _ask_for_a_token()
    _check_token_file()
    try:
        import ray
    except ImportError as error:
        raise ValueError("--executor ray needs Ray: pip install 'batchscale[cluster]'") from error

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    with warnings.catch_warnings():
        handler = signal.getsignal(signal.SIGTERM)
        try:
            if cluster.address is not None:
                _check_listening(cluster.address)
                ray.init(address=cluster.address, **quiet)
            else:
                _start(quiet)
        except Exception as error:  # Ray raises whatever it met
            raise ValueError(f"--ray-address {cluster.address or 'local'} {_why(error)}") from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray's own would end this process at once
        try:
            yield
        finally:
            ray.shutdown()  # of a cluster that runs: leaves it


def _start(how: Mapping[str, Any]) -> None:
    """Start a cluster that listens on this machine alone.

    Ray puts the machine's outer address in the place of 127.0.0.1 wherever it counts on clusters;
    where a variable says that it need not, all its servers are bound to the loopback.
    """
    import ray
    from ray._private import ray_constants

    variable = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    counted, said = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(variable)
    ray_constants.ENABLE_RAY_CLUSTER, os.environ[variable] = False, "0"
    # Ray's processes begin by a fork that executes another program at once.
    warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
    try:
        ray.init(address="local", num_cpus=platform.cores(), include_dashboard=False, **how)
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = counted
        os.environ.pop(variable) if said is None else os.environ.update({variable: said})


def _check_listening(address: str) -> None:
    """Find out in seconds whether anybody listens and lets us in: Ray itself tries for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        raise ValueError("it must be HOST:PORT, or auto")
    with socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS):
        pass
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled

    with nothing_on_stderr():
        GcsClient(address=address)


def _why(error: Exception) -> str:
    """Say in one line why a cluster cannot be joined."""
    from ray.exceptions import AuthenticationError

    if isinstance(error, AuthenticationError):
        return (
            "refuses the token of this process: RAY_AUTH_MODE must be token, and "
            "RAY_AUTH_TOKEN_PATH the file of its machines"
        )
    return f"does not answer: {first_line(error)}"


def _check_token_file() -> None:
    """Refuse a file without a token, which ends Ray's processes without a word to Python.

    Raises:
      ValueError: it is missing or empty.
    """
    path = os.environ.get("RAY_AUTH_TOKEN_PATH", "")
    if os.environ.get("RAY_AUTH_MODE") != "token" or os.environ.get("RAY_AUTH_TOKEN") or not path:
        return
    try:
        token = Path(path).read_text().strip()
    except (OSError, UnicodeError) as error:
        raise ValueError(f"RAY_AUTH_TOKEN_PATH cannot be read: {first_line(error)}") from error
    if not token:
        raise ValueError(f"RAY_AUTH_TOKEN_PATH must be a file with a token, got the empty {path}")


def _ask_for_a_token() -> None:
    """Let nobody else on this machine run code in the cluster, unless the user said how it is.

    Ray reads the variables once, when it is first imported; its processes inherit them.

    Raises:
      ValueError: Ray was imported before this, without a token.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return
    if "ray" in sys.modules:
        raise ValueError(
            "--executor ray starts a cluster with a token, and Ray was imported without one: set "
            "RAY_AUTH_MODE in the environment, or give --ray-address"
        )
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
