# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Style, types, spelling, licences, documentation and change log: the checks that read the files and run nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT, checkout_files, run_tool


def test_ruff_check() -> None:
    run_tool("ruff", "check", "--output-format=concise", ".")


def test_ruff_format() -> None:
    run_tool("ruff", "format", "--check", ".")


def test_mypy_strict() -> None:
    run_tool("mypy")


def test_shellcheck() -> None:
    scripts = [str(path) for path in checkout_files() if _is_shell_script(CHECKOUT / path)]
    assert "tests/run" in scripts
    run_tool("shellcheck", *scripts)


def _is_shell_script(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.readline(80)
    return first.startswith(b"#!") and first.rstrip().endswith((b"/sh", b"/bash", b" bash", b" sh"))


def test_codespell() -> None:
    run_tool("codespell", *(str(path) for path in checkout_files()))


def test_reuse_every_file_has_its_licence() -> None:
    run_tool("reuse", "lint")


def test_antsibull_docs() -> None:
    references = ["--validate-collection-refs", "dependent", "--disallow-unknown-collection-refs"]
    run_tool("antsibull-docs", "lint-collection-docs", "--plugin-docs", *references, ".")


def test_antsibull_changelog() -> None:
    run_tool("antsibull-changelog", "lint")


@pytest.mark.timeout(330)
def test_ansible_lint_production() -> None:
    run_tool("ansible-lint", "--offline", "--profile", "production", "--strict")
