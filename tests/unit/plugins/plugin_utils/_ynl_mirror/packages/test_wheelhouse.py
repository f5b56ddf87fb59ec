# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wheels become an archive, and the archive a virtual environment: the real pip, and wheels made here."""

from __future__ import annotations

import base64
import hashlib
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
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.packages import wheelhouse
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.packages.wheelhouse import (
    NoPackages,
    Wheelhouse,
)

pytestmark = pytest.mark.controller


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ynl-mirror"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "wheels").mkdir()
    _wheel(tmp_path / "wheels", "one", "1.0", "Requires-Dist: two\n")
    _wheel(tmp_path / "wheels", "two", "1.0")
    return tmp_path / "wheels"


def _wheel(folder: Path, name: str, version: str, more: str = "", tag: str = "py3-none-any") -> None:
    """A package that knows its version, and brings a command along."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},\n"
        for path, text in files.items()
    )
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as file:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            file.writestr(path, text)


def _said(environment: Environment, code: str) -> str:
    return subprocess.run(
        [environment.interpreter, "-c", code], capture_output=True, text=True, check=True, env={}
    ).stdout.strip()


def test_an_archive_becomes_an_environment(tmp_path: Path, folder: Path) -> None:
    key, archive = Wheelhouse(["one"], str(folder)).archive(VERSION)
    with zipfile.ZipFile(archive) as file:
        names = file.namelist()
    assert {"one.py", "two.py", "two-1.0.dist-info/METADATA"} <= set(names)
    assert not [name for name in names if name.startswith("bin/")]
    environment = Environment(str(tmp_path / "lib"), key)
    assert not environment.is_whole()
    environment.make_from_archive(str(archive))
    assert environment.is_whole()
    assert _said(environment, "import one, two; print(two.VERSION)") == "1.0"
    assert _said(environment, "import importlib.metadata as m; print(m.version('one'))") == "1.0"
    assert list(Path(environment.path).rglob("one*.pyc"))


def test_the_key_tells_wheels_and_list_apart_and_nothing_else(folder: Path, cache: Path) -> None:
    key, archive = Wheelhouse(["one", "two"], str(folder)).archive("3.11")
    content = archive.read_bytes()
    archive.unlink()
    assert Wheelhouse(["two", "one"], str(folder)).archive("3.11") == (key, archive)
    assert archive.read_bytes() == content
    assert Wheelhouse(["one", "two"], str(folder)).known_keys() == {"any": key}
    assert Wheelhouse(["one"], str(folder)).known_keys() != {"any": key}
    _wheel(folder, "two", "2.0")
    assert Wheelhouse(["one", "two"], str(folder)).known_keys() != {"any": key}


def test_without_a_folder_they_are_downloaded_once(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    assert Wheelhouse(["one"]).known_keys() == {}
    key, archive = Wheelhouse(["one"]).archive("3.9")
    (downloaded,) = (cache / "wheels").iterdir()
    assert {path.name for path in downloaded.iterdir()} == {"one-1.0-py3-none-any.whl", "two-1.0-py3-none-any.whl"}
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache))  # where nothing is
    assert Wheelhouse(["one"]).archive("3.9") == (key, archive)
    assert Wheelhouse(["one"]).known_keys() == {"3.9": key}


@pytest.mark.parametrize(
    ("requirements", "python", "told"),
    [
        (["missing"], "3.11", "No matching distribution found for missing"),
        (["one==3"], "3.11", "No matching distribution found for one==3"),
        (["late"], "3.9", "Package 'late' requires a different Python: 3.9.0"),
        (["native"], "3.11", "No matching distribution found for native"),
    ],
)
def test_what_cannot_be_had_is_told(folder: Path, cache: Path, requirements: list[str], python: str, told: str) -> None:
    _wheel(folder, "late", "1.0", "Requires-Python: >=3.10\n")
    _wheel(folder, "native", "1.0", tag=f"cp{sys.version_info[0]}{sys.version_info[1]}-none-linux_x86_64")
    with pytest.raises(NoPackages, match=told):
        Wheelhouse(requirements, str(folder)).archive(python)
    assert not list((cache / "archives").iterdir())


def test_what_only_the_machines_python_needs_comes_along(folder: Path) -> None:
    conditions = "Requires-Dist: two; python_version < '3.10'\nRequires-Dist: x; extra == 'more'\n"
    _wheel(folder, "three", "1.0", conditions)
    for python, expected in (("3.9", {"three.py", "two.py"}), ("3.11", {"three.py"})):
        with zipfile.ZipFile(Wheelhouse(["three"], str(folder)).archive(python)[1]) as file:
            assert {name for name in file.namelist() if name.endswith(".py")} == expected


def test_a_folder_that_is_not_there_is_told() -> None:
    with pytest.raises(NoPackages, match=r"has no folder /nowhere; fill one with `pip download .* --dest FOLDER one`"):
        Wheelhouse(["one"], "/nowhere")


def test_an_interrupted_environment_is_made_again_and_old_ones_go(tmp_path: Path, folder: Path) -> None:
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


def test_pip_of_the_machine_fills_one_too(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    environment = Environment(str(tmp_path / "lib"), "0" * 12)
    environment.make_by_pip(["one"])
    assert environment.is_whole()
    assert _said(environment, "import two; print(two.VERSION)") == "1.0"


def test_two_that_download_at_once_do_not_meet(tmp_path: Path) -> None:
    final = tmp_path / "final"
    with wheelhouse._beside(final) as mine:
        mine.mkdir()
        (mine / "mine").touch()
        final.mkdir()
        (final / "theirs").touch()
    assert [path.name for path in final.iterdir()] == ["theirs"]
