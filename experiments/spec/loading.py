"""A study or workload in a user's file becomes a module; its text belongs to what was asked.

A file is loaded under a name made of its stem and its text, so that two files of one stem, or two
versions of one file, never answer for each other. Imports no jax by itself.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from workloads.base import Workload
from workloads.registry import Reference, describe_reference

_OURS = ("workloads.", "optimizers.", "schedules.", "experiments.")
_INSTALLED = ("site-packages", "dist-packages")
_LOADED: dict[str, tuple[Path, str]] = {}
"""Module -> (file, sha256 of the text it was loaded from)."""


def load_file(path: Path) -> ModuleType:
    """The module of a user's file, found under its name by whatever is recorded as module:name.

    Raises:
      ValueError: the file does not exist, cannot be read, or its code raises or exits.
    """
    if not path.is_file():
        raise ValueError(f"study file {path} does not exist")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ValueError(f"study file {path} cannot be read ({error.strerror})") from error
    digest = hashlib.sha256(text).hexdigest()
    name = f"study_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}_{digest[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise ValueError(f"study file {path} is not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    # A model defined in the file is recorded as "module:name" and must be found there.
    sys.modules[name] = module
    _LOADED.pop(name, None)  # the newest is last
    _LOADED[name] = (path.resolve(), digest)
    try:
        exec(compile(text, str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except KeyboardInterrupt:
        raise
    except SystemExit as error:
        raise ValueError(f"study file {path} calls sys.exit({error.code!r})") from error
    except BaseException as error:
        said = " ".join(str(error).split())
        raise ValueError(f"study file {path} fails: {type(error).__name__}: {said}") from error
    return module


def texts_of_files(code: Mapping[str, str]) -> tuple[tuple[str, bytes], ...]:
    """(name, text) of the user's files that a study's ``code`` lists and this process has loaded.

    Raises:
      ValueError: the text of a file has changed since.
    """
    found = []
    for path, digest in _LOADED.values():
        if digest in code.values():
            text = path.read_bytes()
            if hashlib.sha256(text).hexdigest() != digest:
                raise ValueError(f"study file {path} has changed since it was loaded")
            found.append((path.name, text))
    return tuple(found)


def load_text(name: str, text: bytes) -> ModuleType:
    """The module of a user's file of another machine, under the name that it has there."""
    folder = Path(tempfile.mkdtemp(prefix="batchscale-file-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / Path(name).name
    path.write_bytes(text)
    return load_file(path)


def code_of(workload: Workload, source: str = "") -> dict[str, str]:
    """File name -> sha256 of its text: ``source``, and the user's files the workload names.

    Another file of a name that is taken is called "name (2)", "name (3)", ...: folders are left
    out, so that a study that was moved stays the same.

    Modules of the four packages and of installed distributions are not among them: their versions
    are recorded with the environment.
    """
    found: dict[Path, str] = {}
    references: tuple[Reference | None, ...] = (
        workload.model,
        workload.losses,
        workload.preprocess,
    )
    for reference in references:
        if reference is not None:
            found |= _of_module(describe_reference(reference).partition(":")[0])
    if source:
        found |= _of_file(Path(source))  # as it is now, whatever text of it the models are of
    return _named(found)


def code_of_function(function: object) -> dict[str, str]:
    """File name -> sha256 of the text of the file that defines a user's function, where it has
    one: an interactive session has none, and our own packages' versions are recorded."""
    return _named(_of_module(str(getattr(function, "__module__", ""))))


def _named(found: Mapping[Path, str]) -> dict[str, str]:
    """File name -> sha256; a text that is there under its file's name is not repeated."""
    named: dict[str, str] = {}
    for path, digest in found.items():
        key, count = path.name, 1
        while named.get(key, digest) != digest:
            count += 1
            key = f"{path.name} ({count})"
        named[key] = digest
    return dict(sorted(named.items()))


def _of_file(path: Path) -> dict[Path, str]:
    """A file and the sha256 of its text, as it was loaded where it was."""
    path = path.resolve()
    loaded = [digest for file, digest in _LOADED.values() if file == path]
    if loaded:
        return {path: loaded[-1]}
    return {path: hashlib.sha256(path.read_bytes()).hexdigest()} if path.is_file() else {}


def _of_module(name: str) -> dict[Path, str]:
    """The file that defines a module, with its sha256; nothing where it is not a user's."""
    if name in _LOADED:
        file, digest = _LOADED[name]
        return {file: digest}
    if name.startswith(_OURS):
        return {}
    module = sys.modules.get(name)
    origin = getattr(module, "__file__", None)
    if module is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            return {}
        origin = spec.origin if spec else None
    path = Path(origin or "")
    if path.suffix != ".py" or set(_INSTALLED) & set(path.parts):
        return {}
    return _of_file(path)
