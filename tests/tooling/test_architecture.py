# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/architecture.md lists the packages in the order of imports; here the files are held to it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.cli.main import PACKAGES
from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT

FOLDERS = ("module_utils", "plugin_utils")
LAB = {"lab", "qemu", "report"}
LAB_PLUGINS = {
    "action/qemu_topology.py",
    "filter/lab_picture.py",
    "filter/lab_report.py",
    "modules/netns_topology.py",
}
NOT_PURE = {"socket", "time", "datetime", "asyncio", "subprocess", "ansible"}


def root(folder: str) -> Path:
    return CHECKOUT / "plugins" / folder / "_ynl_mirror"


def packages(folder: str) -> dict[str, set[str]]:
    """The packages of a folder, in the order of the table, each with its pure files."""
    document = (CHECKOUT / "docs" / "architecture.md").read_text()
    heading = f"| package in `plugins/{folder}/_ynl_mirror/` | what | pure files |\n|---|---|---|\n"
    table = document.partition(heading)[2].partition("\n\n")[0]
    found: dict[str, set[str]] = {}
    for row in table.splitlines():
        name, _what, pure = (cell.strip() for cell in row.split("|")[1:4])
        package = name.strip("`")
        every = {path.stem for path in (root(folder) / package).glob("*.py")}
        found[package] = every if pure == "all" else set(re.findall(r"`(\w+)`", pure))
        assert found[package] <= every, f"{package} has no {found[package] - every}"
    return found


def files(folder: str) -> dict[str, Path]:
    """Every file by package.name."""
    return {f"{path.parent.name}.{path.stem}": path for path in root(folder).rglob("*.py")}


def imported(path: Path) -> Iterator[str]:
    """The package.name of each file of the same tree that a file imports, for types or for use."""
    tree = root(path.parts[-4])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level in {1, 2}:
            module = [path.parent.name] * (2 - node.level) + (node.module.split(".") if node.module else [])
            names = [module] if len(module) == 2 else [[*module, alias.name] for alias in node.names]
            for name in names:
                assert (tree / f"{'/'.join(name)}.py").exists(), f"{path} imports {name}"
                yield ".".join(name)


def foreign(path: Path) -> set[str]:
    """The top-level names of what a file imports from elsewhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_table_names_every_package_and_no_other(folder: str) -> None:
    assert set(packages(folder)) == {path.parent.name for path in files(folder).values()}


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_has_the_name_of_a_module_of_python(folder: str) -> None:
    """The pylint of `ansible-test sanity` would check Python's in its place."""
    assert {path.stem for path in files(folder).values()}.isdisjoint(sys.stdlib_module_names)


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_lies_beside_the_package(folder: str) -> None:
    assert [path.name for path in root(folder).parent.iterdir() if path.suffix == ".py"] == []
    assert [path.name for path in root(folder).glob("*.py")] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_package_opens_with_an_essay_of_a_screen(folder: str) -> None:
    for package in packages(folder):
        essay = (root(folder) / package / "README.md").read_text()
        assert 8 <= len(essay.splitlines()) <= 50, package


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_imports_from_a_later_package(folder: str) -> None:
    order = list(packages(folder))
    upward = [
        f"{name} imports {other}"
        for name, path in files(folder).items()
        for other in imported(path)
        if order.index(other.partition(".")[0]) > order.index(path.parent.name)
    ]
    assert upward == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_circle_of_files(folder: str) -> None:
    graph = {name: set(imported(path)) for name, path in files(folder).items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)


@pytest.mark.parametrize("folder", FOLDERS)
def test_pure_files_import_no_socket_no_clock_and_no_ansible(folder: str) -> None:
    pure = [root(folder) / package / f"{name}.py" for package, names in packages(folder).items() for name in names]
    assert pure
    found = {str(path.relative_to(root(folder))): sorted(NOT_PURE & foreign(path)) for path in pure}
    assert {name: others for name, others in found.items() if others} == {}


def test_the_daemons_import_the_packages_that_they_check_at_their_start_and_no_other() -> None:
    known = {*sys.stdlib_module_names, "ansible"}
    found = {other for path in files("module_utils").values() for other in foreign(path)} - known
    assert found == set(PACKAGES)


def test_no_other_package_imports_the_lab() -> None:
    importing = [
        name
        for folder in FOLDERS
        for name, path in files(folder).items()
        if path.parent.name not in LAB and any(other.partition(".")[0] in LAB for other in imported(path))
    ]
    assert importing == []


def test_no_other_plugin_imports_the_lab() -> None:
    plugins = CHECKOUT / "plugins"
    lab = re.compile(rf"_ynl_mirror\.({'|'.join(LAB)})\b")
    importing = {
        path.relative_to(plugins).as_posix()
        for path in plugins.rglob("*.py")
        if "_ynl_mirror" not in path.parts and lab.search(path.read_text())
    }
    assert importing == LAB_PLUGINS
