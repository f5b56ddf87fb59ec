# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real pip: wheels become an archive, and the archive a virtual environment."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.install.environment import (
    VERSION,
    Environment,
    environments,
)
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.packages.wheelhouse import (
    NoPackages,
    Wheelhouse,
)
from ansible_collections.ekho.ynl_mirror.tests.support.build.wheels import wheel

pytestmark = pytest.mark.controller


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ynl-mirror"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "wheels").mkdir()
    wheel(tmp_path / "wheels", "one", "1.0", "Requires-Dist: two\n")
    wheel(tmp_path / "wheels", "two", "1.0")
    return tmp_path / "wheels"


def _output(environment: Environment, code: str) -> str:
    return subprocess.run(
        [environment.interpreter, "-c", code], capture_output=True, text=True, check=True, env={}
    ).stdout.strip()


def test_an_archive_becomes_an_environment(tmp_path: Path, folder: Path) -> None:
    key, archive = Wheelhouse(["one"], str(folder)).archive(VERSION)
    content = archive.read_bytes()
    archive.unlink()
    assert Wheelhouse(["one"], str(folder)).archive(VERSION) == (key, archive)
    assert archive.read_bytes() == content
    with zipfile.ZipFile(archive) as file:
        names = file.namelist()
    assert {"one.py", "two.py", "two-1.0.dist-info/METADATA"} <= set(names)
    assert not [name for name in names if name.startswith("bin/")]
    environment = Environment(str(tmp_path / "lib"), key)
    assert not environment.is_whole()
    environment.make_from_archive(str(archive))
    assert environment.is_whole()
    assert _output(environment, "import one, two; print(two.VERSION)") == "1.0"
    assert _output(environment, "import importlib.metadata as m; print(m.version('one'))") == "1.0"
    assert list(Path(environment.path).rglob("one*.pyc"))


def test_without_a_folder_wheels_are_downloaded_once(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    assert Wheelhouse(["one"]).known_keys() == {}
    key, archive = Wheelhouse(["one"]).archive("3.9")
    (downloaded,) = (cache / "wheels").iterdir()
    assert {path.name for path in downloaded.iterdir()} == {"one-1.0-py3-none-any.whl", "two-1.0-py3-none-any.whl"}
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache))  # an empty index
    assert Wheelhouse(["one"]).archive("3.9") == (key, archive)
    assert Wheelhouse(["one"]).known_keys() == {"3.9": key}


@pytest.mark.parametrize(
    ("requirements", "python", "message"),
    [
        (["missing"], "3.11", "No matching distribution found for missing"),
        (["one==3"], "3.11", "No matching distribution found for one==3"),
        (["late"], "3.9", "Package 'late' requires a different Python: 3.9.0"),
        (["native"], "3.11", "No matching distribution found for native"),
    ],
)
def test_unavailable_packages_are_named(
    folder: Path, cache: Path, requirements: list[str], python: str, message: str
) -> None:
    wheel(folder, "late", "1.0", "Requires-Python: >=3.10\n")
    wheel(folder, "native", "1.0", tag=f"cp{sys.version_info[0]}{sys.version_info[1]}-none-linux_x86_64")
    with pytest.raises(NoPackages, match=message):
        Wheelhouse(requirements, str(folder)).archive(python)
    assert not list((cache / "archives").iterdir())


def test_what_only_the_machines_python_needs_is_added(folder: Path) -> None:
    conditions = "Requires-Dist: two; python_version < '3.10'\nRequires-Dist: x; extra == 'more'\n"
    wheel(folder, "three", "1.0", conditions)
    for python, expected in (("3.9", {"three.py", "two.py"}), ("3.11", {"three.py"})):
        with zipfile.ZipFile(Wheelhouse(["three"], str(folder)).archive(python)[1]) as file:
            assert {name for name in file.namelist() if name.endswith(".py")} == expected


def test_an_interrupted_environment_is_created_again_and_old_ones_are_removed(tmp_path: Path, folder: Path) -> None:
    _key, archive = Wheelhouse(["one"], str(folder)).archive(VERSION)
    for number in range(4):
        environment = Environment(str(tmp_path / "lib"), f"{number:012x}")
        Path(environment.path, "lib").mkdir(parents=True)
        (Path(environment.path) / "half").touch()
        environment.make_from_archive(str(archive))
        environment.remove_older()
        assert not (Path(environment.path) / "half").exists()
    names = {f"python{VERSION}-{number:012x}" for number in (2, 3)}
    assert set(environments(str(tmp_path / "lib"))) == names


def test_the_machines_pip_can_fill_an_environment(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    environment = Environment(str(tmp_path / "lib"), "0" * 12)
    environment.make_by_pip(["one"])
    assert environment.is_whole()
    assert _output(environment, "import two; print(two.VERSION)") == "1.0"
