"""A study or workload in a user's file becomes a module."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load_file(path: Path) -> ModuleType:
    """The module of a user's file, found under its name by whatever is recorded as module:name."""
    if not path.is_file():
        raise ValueError(f"study file {path} does not exist")
    name = f"study_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A model defined in the file is recorded as "module:name" and must be found there.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"study file {path} fails: {type(error).__name__}: {error}") from error
    return module
