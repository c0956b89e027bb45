"""Two Ray nodes on this machine, in a process of their own: ``python -m support.ray_cluster``.

Prints the cluster's address; each line it reads takes the second node away; ends with its input.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


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


def read_token() -> None:
    """Let Ray take its token from the environment anew: it does so once a process."""
    from ray._private.authentication_test_utils import reset_auth_token_state

    reset_auth_token_state()


def with_token(patch: pytest.MonkeyPatch, path: Path | None) -> None:
    """Set the environment to the token in a file; None: to no token."""
    patch.delenv("RAY_AUTH_TOKEN", raising=False)
    patch.setenv("RAY_AUTH_MODE", "disabled" if path is None else "token")
    patch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    read_token()


def listens(root: int) -> set[str]:
    """The addresses at which a process and all that it began take connections."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            found = re.search(r"^PPid:\s+(\d+)", status.read_text(), re.MULTILINE)
            parents[int(status.parent.name)] = int(found[1]) if found else 0
    family = {root}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    sockets = set()
    for pid in family:
        with contextlib.suppress(OSError):
            for file in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    sockets.update(re.findall(r"socket:\[(\d+)\]", os.readlink(file)))
    rows = []
    for table in ("tcp", "tcp6"):
        rows += [line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    return {_address(row[1]) for row in rows if row[3] == "0A" and row[9] in sockets}


def _address(text: str) -> str:
    """Of ``HEX:PORT`` as the kernel prints it, words of four bytes in the machine's order."""
    raw = bytes.fromhex(text.split(":")[0])
    if sys.byteorder == "little":
        raw = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    address = ip_address(raw)
    return str(getattr(address, "ipv4_mapped", None) or address)


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
