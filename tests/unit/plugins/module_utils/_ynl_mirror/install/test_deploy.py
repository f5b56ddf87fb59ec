# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files make up the program."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.install import deploy

LIBRARY = Path(deploy.__file__).parents[1]
SOURCES = sorted(LIBRARY.rglob("*.py"))


def _parsed(source: str) -> set[deploy.Import]:
    return {
        deploy.Import(node.level, node.module or "", tuple(alias.name for alias in node.names))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.level
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_imports_found_by_text_are_those_of_the_parser(path: Path) -> None:
    assert set(deploy.imports(path.read_text())) == _parsed(path.read_text())


def test_all_forms_of_an_import_are_found() -> None:
    source = (
        "from . import a, b as c\nfrom .d import e, f\nimport g\nfrom ..m.n import o as p\nfrom .. import q\n"
        "def h():\n    from . import (\n        i,\n        j,\n    )\n    from .k import l  # from .m import n\n"
    )
    assert set(deploy.imports(source)) == _parsed(source)
    assert len(list(deploy.imports(source))) == 6


def test_the_program_has_all_that_the_daemons_import() -> None:
    sources = deploy.read_sources()
    assert {"cli/main.py", "agent/agent.py", "listener/listener.py", "daemon/logs.py", "netlink/sockets.py"} <= set(
        sources
    )
    assert not any(path.startswith("install/") for path in sources)  # what only Ansible runs stays away
