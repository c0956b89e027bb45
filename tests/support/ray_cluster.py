"""Two Ray nodes on this machine, in a process of their own: ``python -m support.ray_cluster``.

Prints the cluster's address; each line it reads takes the second node away; ends with its input.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def simulated() -> Iterator[subprocess.Popen[str]]:
    """The process, with ``address`` as its first line of output not yet read."""
    child = subprocess.Popen(
        [sys.executable, "-m", "support.ray_cluster"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield child
    finally:
        assert child.stdin
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        child.wait(timeout=60)
        assert child.stdout
        child.stdout.close()


def main() -> None:
    """Start, say where, take the node away when told, end with standard input."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    second = cluster.add_node(num_cpus=1)
    print(cluster.address, flush=True)
    for _ in sys.stdin:
        cluster.remove_node(second, allow_graceful=False)
    cluster.shutdown()


if __name__ == "__main__":
    main()
