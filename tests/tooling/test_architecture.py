# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/architecture.md says what is in which layer; here the files are held to it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.tools import CHECKOUT

FOLDERS = ("module_utils", "plugin_utils")
NOT_PURE = {"socket", "time", "datetime", "asyncio", "subprocess", "ansible"}


@dataclass(frozen=True)
class Layers:
    """The layers of a folder, lowest first, and the layer of each file that the table names."""

    order: list[str]
    places: dict[str, str]

    @classmethod
    def read(cls, folder: str) -> Layers:
        """From the table below the heading that names the folder."""
        document = (CHECKOUT / "docs" / "architecture.md").read_text()
        table = document.partition(f"| layer | files in `plugins/{folder}/` | what |\n|---|---|---|\n")[2]
        rows = [[cell.strip() for cell in row.split("|")[1:3]] for row in table.partition("\n\n")[0].splitlines()]
        order: list[str] = []
        places: dict[str, str] = {}
        for layer, files in rows:
            order += [layer] if layer else []
            for name in re.findall(r"`(\w+)`", files):
                assert name not in places, f"{name} is named twice"
                places[name] = order[-1]
        return cls(order, places)

    def height(self, name: str) -> int:
        """Of the layer that a file is in."""
        return self.order.index(self.places[name])


def files(folder: str) -> dict[str, Path]:
    found = (CHECKOUT / "plugins" / folder).glob("*.py")
    return {path.stem: path for path in found if path.stem != "__init__"}


def imported(tree: ast.AST) -> Iterator[tuple[bool, str]]:
    """Whether it is of the same folder, and its name, for each file that is imported; not what only types need."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.level < 2:
            named = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((node.level == 1, str(name).partition(".")[0]) for name in named)
        elif isinstance(node, ast.Import):
            yield from ((False, alias.name.partition(".")[0]) for alias in node.names)
        yield from imported(node)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_table_names_every_file_and_no_other(folder: str) -> None:
    named, found = set(Layers.read(folder).places), set(files(folder))
    assert (found - named, named - found) == (set(), set())


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_imports_one_of_a_higher_layer(folder: str) -> None:
    layers = Layers.read(folder)
    upward = [
        f"{name} ({layers.places[name]}) imports {other} ({layers.places[other]})"
        for name, path in files(folder).items()
        for own, other in imported(ast.parse(path.read_text()))
        if own and layers.height(other) > layers.height(name)
    ]
    assert upward == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_pure_files_import_no_socket_no_clock_and_no_ansible(folder: str) -> None:
    layers = Layers.read(folder)
    found = {
        name: sorted(NOT_PURE & {other for _own, other in imported(ast.parse(path.read_text()))})
        for name, path in files(folder).items()
        if layers.places[name] in {"values", "pure"}
    }
    assert found
    assert {name: others for name, others in found.items() if others} == {}
