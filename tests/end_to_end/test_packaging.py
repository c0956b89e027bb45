"""What is shipped, what is pinned, and what stays light."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import grimp
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PACKAGES = ("workloads", "optimizers", "schedules", "experiments")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def python(code: str) -> str:
    """What ``code`` prints in an interpreter of its own, away from the checkout."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pinned = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(name): version for name, version in pinned}


@pytest.mark.parametrize("package", PACKAGES)
def test_each_top_level_package_is_ours(package):
    """Their names are common words: another distribution must not come first on the path."""
    assert Path(importlib.import_module(package).__file__) == ROOT / package / "__init__.py"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_every_module_of_the_four_packages_and_nothing_else(wheel):
    names = [n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n]
    sources = {
        str(p.relative_to(ROOT)) for package in PACKAGES for p in (ROOT / package).rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == sources
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)  # PEP 561
    assert {name.split("/")[0] for name in names} == set(PACKAGES)


def test_the_wheel_carries_the_licence_and_the_command(wheel):
    archive = zipfile.ZipFile(wheel)
    about = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
    info = about.removesuffix("METADATA")
    assert "License-Expression: Apache-2.0" in archive.read(about).decode()
    assert archive.read(info + "licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "batchscale = experiments.cli:main" in archive.read(info + "entry_points.txt").decode()


@pytest.mark.parametrize(
    "room",
    [
        "experiments.spec.study",
        "experiments.search.samplers.halton",
        "experiments.records",
        "experiments.analysis",
        "experiments.report",
    ],
)
def test_what_describes_records_and_draws_needs_no_jax(room):
    """Every module of the room, imported in an interpreter of its own."""
    printed = python(
        "import importlib, pkgutil, sys\n"
        f"room = importlib.import_module({room!r})\n"
        "for module in pkgutil.walk_packages(getattr(room, '__path__', []), room.__name__ + '.'):\n"
        "    importlib.import_module(module.name)\n"
        "print(sorted({'jax', 'jaxlib', 'flax', 'optax', 'orbax'} & set(sys.modules)))\n"
    )
    assert printed == "[]\n"


def test_the_version_is_the_same_wherever_it_is_stated():
    """The newest of the changelog is the one that is being made."""
    version = PROJECT["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    newest = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None and newest[1] == version


def test_requirements_hold_names_and_versions_only():
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        assert re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line


def test_every_declared_dependency_is_pinned_within_its_range():
    declared = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["dev"],
    ]
    pinned = pins()
    for requirement in map(Requirement, declared):
        version = pinned.get(normal(requirement.name))
        assert version is not None, f"{requirement.name} is not in requirements.txt"
        assert requirement.specifier.contains(version), f"{requirement}, pinned {version}"


def test_the_pins_are_closed_under_their_own_requirements():
    """No package outside requirements.txt is needed by one inside: an install is reproducible."""
    pinned, missing = pins(), []
    for name in pinned:
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and normal(requirement.name) not in pinned:
                missing.append(f"{name} needs {requirement}")
    assert missing == []


def test_the_extras_install_the_right_jax():
    extras = PROJECT["project"]["optional-dependencies"]
    offered = set(metadata.metadata("jax").get_all("Provides-Extra") or [])
    for extra, variant in (("cuda", "cuda13"), ("cuda12", "cuda12"), ("tpu", "tpu")):
        assert extras[extra] == [f"jax[{variant}]"]
        assert variant in offered


def imported_packages(path: Path) -> set[str]:
    """Top-level names that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_no_module_imports_itself_by_way_of_others():
    """Also not inside functions: what goes round in a circle is one module in several files."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    left = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    while free := {name for name, imports in left.items() if not imports & left.keys()}:
        left = {name: imports for name, imports in left.items() if name not in free}
    assert sorted(left) == []


def test_what_all_tables_share_needs_the_standard_library_only():
    names = imported_packages(ROOT / "workloads" / "registry.py")
    assert names <= set(sys.stdlib_module_names)


def test_every_extra_is_imported_by_something():
    """An extra that nothing imports promises what is not there; jax's variants are drivers."""
    optional = PROJECT["project"]["optional-dependencies"]
    distributions = metadata.packages_distributions()
    imported = {
        normal(distribution)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for name in imported_packages(path)
        for distribution in [name, *distributions.get(name, [])]
    }
    offered = {
        normal(Requirement(text).name)
        for extra in optional.keys() - {"dev", "cuda", "cuda12", "tpu"}
        for text in optional[extra]
    }
    assert offered <= imported


def test_third_party_imports_are_declared():
    """Whatever a shipped module imports is a dependency or an extra's, or the standard library."""
    optional = PROJECT["project"]["optional-dependencies"]
    shipped = [*PROJECT["project"]["dependencies"], *(t for e in optional.values() for t in e)]
    declared = {normal(Requirement(text).name) for text in shipped}
    distributions = metadata.packages_distributions()
    undeclared = {
        (str(path.relative_to(ROOT)), name)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for name in imported_packages(path) - {*PACKAGES, *sys.stdlib_module_names}
        if not {normal(d) for d in distributions.get(name, [])} & declared
    }
    assert undeclared == set()


def test_no_test_module_imports_another():
    """What tests share lies in tests/support."""
    files = [*(ROOT / "tests").rglob("test_*.py"), ROOT / "tests" / "conftest.py"]
    modules = {path.stem for path in files}
    found = {path.name: imported_packages(path) & (modules | {"tests"}) for path in files}
    assert {name: others for name, others in found.items() if others} == {}
