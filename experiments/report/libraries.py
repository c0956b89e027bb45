"""Vega, Vega-Lite and Vega-Embed as one script, kept in the user's cache folder.

To bundle them takes more than a second of every report and gives the same text for one version of
vl-convert. What is kept carries its checksum; what cannot be kept is bundled anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from importlib import metadata
from pathlib import Path

from experiments.records.files import write_whole

_SNIPPET = "window.vegaEmbed = vegaEmbed;"


@functools.cache
def libraries() -> str:
    """The script that gives a page ``vegaEmbed``; it cannot end the element it stands in."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "batchscale" / f"vega-{metadata.version('vl-convert-python')}.js"
    kept = _kept(path)
    if kept is not None:
        return kept
    import vl_convert

    text = str(vl_convert.javascript_bundle(_SNIPPET)).replace("</script", "<\\/script")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(path, f"{_checksum(text)}\n{text}".encode(), sync=False)
    return text


def _kept(path: Path) -> str | None:
    """The script as it was kept; None where there is none, or another than was written."""
    try:
        checksum, _, text = path.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    return text if checksum == _checksum(text) else None


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
