# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""scripts/setup on a checkout of its own: what it makes, what it leaves alone, what it says when it cannot go on.

The requirements are empty there, so no package is fetched; all the rest is as users run it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT

LINK = ".cache/collections/ansible_collections/ekho/ynl_mirror"


def make_checkout(folder: Path) -> Path:
    """A folder with the script and requirements without a requirement."""
    for name in ("scripts", "tests"):
        (folder / name).mkdir(parents=True)
    script = folder / "scripts" / "setup"
    script.write_bytes((CHECKOUT / "scripts" / "setup").read_bytes())
    script.chmod(0o755)
    for name in ("requirements.txt", "tests/requirements.txt"):
        (folder / name).write_text("# none\n", encoding="utf-8")
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One in which nothing has been set up."""
    return make_checkout(tmp_path / "checkout")


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that is set up; tests leave it so."""
    folder = make_checkout(tmp_path_factory.mktemp("ready") / "checkout")
    done = setup(folder)
    assert done.returncode == 0, done.stderr
    assert "installing" in done.stderr
    return folder


def setup(checkout: Path, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run it; ``path`` is a folder that comes first on PATH."""
    environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]}
    command = [str(checkout / "scripts" / "setup"), *arguments]
    return subprocess.run(
        command, env=environment, cwd=checkout.parent, capture_output=True, text=True, timeout=100, check=False
    )


def program(folder: Path, name: str, text: str) -> Path:
    """Put a shell script into a folder for PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    (folder / name).chmod(0o755)
    return folder


def missing_program(checkout: Path) -> None:
    """Let the script want a program that no machine has."""
    script = checkout / "scripts" / "setup"
    script.write_text(script.read_text(encoding="utf-8").replace("traceroute:traceroute", "no-such:its-package"))


def test_makes_everything_once(ready: Path) -> None:
    assert (ready / ".venv" / "bin" / "python").exists()
    assert (ready / LINK).resolve() == ready
    again = setup(ready)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_changed_requirements_are_installed(ready: Path) -> None:
    (ready / "requirements.txt").write_text("# still none\n", encoding="utf-8")
    assert "installing" in setup(ready).stderr
    assert setup(ready).stderr == ""


def test_the_developers_environment_serves_all_tests_and_the_demo(ready: Path, tmp_path: Path) -> None:
    done = setup(ready, "dev")
    assert done.returncode == 0, done.stderr
    assert "installing pinned Python packages" in done.stderr
    # Where packages are missing, apt-get is asked for them alone.
    tools = program(tmp_path / "tools", "id", "echo 0")
    program(tools, "apt-get", "exit 0")
    for level in ("run", "dev", "test", "all", "qemu"):
        assert "Python" not in setup(ready, level, path=tools).stderr


def test_interrupted_run_is_made_good(ready: Path) -> None:
    (ready / ".venv" / "half").touch()
    (ready / ".venv" / ".unfinished").touch()
    assert setup(ready).returncode == 0
    assert not (ready / ".venv" / "half").exists(), "made again: what an interruption leaves may only look complete"
    assert setup(ready).stderr == ""


def test_moved_checkout_is_made_good(ready: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(ready, tmp_path / "moved", symlinks=True))
    assert "installing" in setup(moved).stderr
    assert f"{moved}/.venv/" in (moved / ".venv" / "bin" / "pip").read_text(encoding="utf-8")
    assert (moved / LINK).resolve() == moved


def test_python_that_does_not_start_is_passed_over(checkout: Path, tmp_path: Path) -> None:
    shims = program(tmp_path / "shims", "python3.11", "exit 127")
    done = setup(checkout, path=shims)
    assert done.returncode == 0, done.stderr
    assert (checkout / ".venv" / "bin" / "python").exists()


def test_a_user_who_is_not_root_gets_the_one_command(checkout: Path, tmp_path: Path) -> None:
    missing_program(checkout)
    done = setup(checkout, path=program(tmp_path / "user", "id", "echo 1000"))
    assert done.returncode == 1
    assert "sudo apt-get install -y its-package" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_developer_who_is_not_root_does_without(checkout: Path, tmp_path: Path) -> None:
    missing_program(checkout)
    done = setup(checkout, "dev", path=program(tmp_path / "user", "id", "echo 1000"))
    assert done.returncode == 0
    assert "sudo apt-get install -y its-package" in done.stderr
    assert (checkout / ".venv" / "bin" / "python").exists()


@pytest.mark.parametrize(
    ("level", "peers", "machines"),
    [("run", False, False), ("dev", False, False), ("test", True, False), ("qemu", False, True), ("all", True, True)],
)
def test_a_level_asks_for_the_packages_of_its_tests(
    checkout: Path, tmp_path: Path, level: str, peers: bool, machines: bool
) -> None:
    """On a machine that has none of the optional programs."""
    script = checkout / "scripts" / "setup"
    text = script.read_text(encoding="utf-8")
    for name in ("qemu-system-x86_64", "/usr/lib/frr/zebra", "bird", "shellcheck"):
        text = text.replace(f"{name}:", f"no-such{name}:")
    script.write_text(text, encoding="utf-8")
    tools = program(tmp_path / "tools", "id", "echo 0")
    log = tmp_path / "log"
    program(tools, "apt-get", f'echo "$@" >>{log}; exit 100')
    setup(checkout, level, path=tools)
    asked = set(log.read_text(encoding="utf-8").splitlines()[0].split()) if log.exists() else set()
    assert {"frr", "bird2"} <= asked if peers else not {"frr", "bird2"} & asked
    assert ("qemu-system-x86" in asked) == machines
    assert ("shellcheck" in asked) == (level in {"dev", "test", "all"})


def test_root_installs_after_a_look_for_new_lists(checkout: Path, tmp_path: Path) -> None:
    missing_program(checkout)
    log = tmp_path / "log"
    tools = program(tmp_path / "tools", "id", "echo 0")
    # As on a fresh machine: unknown package until the lists are there.
    program(
        tools,
        "apt-get",
        f'echo "$@" >>{log}; case "$1" in update) touch {log}.updated;; *) [ -e {log}.updated ];; esac',
    )
    done = setup(checkout, path=tools)
    assert "installing its-package" in done.stderr
    install = "install -y --no-install-recommends its-package"
    assert log.read_text(encoding="utf-8").splitlines() == [install, "update", install]


def test_a_failed_install_is_reported(checkout: Path, tmp_path: Path) -> None:
    missing_program(checkout)
    tools = program(tmp_path / "tools", "id", "echo 0")
    program(tools, "apt-get", 'echo "E: Unable to locate package its-package"; exit 100')
    done = setup(checkout, path=tools)
    assert done.returncode == 1
    assert "E: Unable to locate package its-package" in done.stderr
    assert "could not install its-package" in done.stderr


def test_unknown_level(checkout: Path) -> None:
    done = setup(checkout, "everything")
    assert done.returncode == 1
    assert "'everything'" in done.stderr


def test_without_an_environment_the_tests_name_the_command_that_makes_it(checkout: Path) -> None:
    run = checkout / "tests" / "run"
    run.write_bytes((CHECKOUT / "tests" / "run").read_bytes())
    run.chmod(0o755)
    done = subprocess.run([str(run), "unit"], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "`make dev` makes it" in done.stderr


def test_a_lab_that_is_none_is_named_before_anything_is_set_up() -> None:
    done = subprocess.run(
        ["make", "demo", "LAB=quemu"], cwd=CHECKOUT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "LAB=quemu: a lab is of netns or qemu" in done.stderr
