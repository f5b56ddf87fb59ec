# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""plugins/module_utils/README.md says that everything there is private, and lists which plugins use which package."""

from __future__ import annotations

import ast
import re

from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT

PLUGINS = CHECKOUT / "plugins"
PRIVATE = PLUGINS / "module_utils" / "_ynl_mirror"
README = (PLUGINS / "module_utils" / "README.md").read_text()


def used() -> dict[str, set[str]]:
    """The private packages that each plugin imports itself."""
    found: dict[str, set[str]] = {}
    packages = {path.name for path in PRIVATE.iterdir()}
    for path in sorted(PLUGINS.glob("*/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and "module_utils._ynl_mirror." in str(node.module):
                package = str(node.module).partition("module_utils._ynl_mirror.")[2].partition(".")[0]
                assert package in packages, f"{path} imports {package}"
                kind = {"modules": "module"}.get(path.parent.name, path.parent.name)
                found.setdefault(f"{kind} `{path.stem}`", set()).add(package)
    return found


def test_the_readme_lists_what_each_plugin_uses() -> None:
    rows = re.findall(r"^\| (\w+ `\w+`) \| (.+) \|$", README, re.MULTILINE)
    assert {plugin: set(re.findall(r"`(\w+)`", packages)) for plugin, packages in rows} == used()


def test_every_file_of_module_utils_is_in_the_private_package() -> None:
    assert "private" in README.partition("\n# ")[2].partition("\n")[0]
    assert {path.name for path in PRIVATE.parent.iterdir()} - {"__pycache__"} == {"README.md", PRIVATE.name}
