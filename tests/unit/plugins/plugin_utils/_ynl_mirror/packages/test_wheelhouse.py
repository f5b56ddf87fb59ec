# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the wheelhouse keeps and asks of pip, with a pip that only copies; the real one is in tests/integration."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.packages import wheelhouse
from ansible_collections.ekho.ynl_mirror.plugins.plugin_utils._ynl_mirror.packages.wheelhouse import (
    NoPackages,
    Wheelhouse,
)
from ansible_collections.ekho.ynl_mirror.tests.support.build.wheels import wheel

pytestmark = pytest.mark.controller


class Pip:
    """Downloads from INDEX exactly what is asked for, and installs by unpacking."""

    def __init__(self, index: Path) -> None:
        self.index = index
        self.calls: list[Sequence[str]] = []

    def __call__(self, arguments: Sequence[str]) -> None:
        self.calls.append(arguments)
        where = Path(arguments[arguments.index("--find-links") + 1]) if "--find-links" in arguments else self.index
        target = Path(arguments[2])
        target.mkdir(exist_ok=True)
        for path in where.glob("*.whl"):
            name, version = path.name.split("-")[:2]
            if {name, f"{name}=={version}"} & set(arguments):
                if arguments[0] == "download":
                    shutil.copy(path, target)
                else:
                    zipfile.ZipFile(path).extractall(target)


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


@pytest.fixture(autouse=True)
def pip(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Pip:
    stub = Pip(folder)
    monkeypatch.setattr(wheelhouse, "_pip", stub)
    return stub


def modules(archive: Path) -> set[str]:
    with zipfile.ZipFile(archive) as file:
        return {name for name in file.namelist() if name.endswith(".py")}


def test_the_key_depends_on_wheels_and_requirements_only(folder: Path) -> None:
    key, archive = Wheelhouse(["one", "two"], str(folder)).archive("3.11")
    content = archive.read_bytes()
    archive.unlink()
    assert Wheelhouse(["two", "one"], str(folder)).archive("3.11") == (key, archive)
    assert archive.read_bytes() == content
    assert Wheelhouse(["one", "two"], str(folder)).known_keys() == {"any": key}
    assert Wheelhouse(["one"], str(folder)).known_keys() != {"any": key}
    wheel(folder, "two", "2.0")
    assert Wheelhouse(["one", "two"], str(folder)).known_keys() != {"any": key}


def test_without_a_folder_wheels_are_downloaded_once(cache: Path, pip: Pip) -> None:
    assert Wheelhouse(["one"]).known_keys() == {}
    key, archive = Wheelhouse(["one"]).archive("3.9")
    (downloaded,) = (cache / "wheels").iterdir()
    assert {path.name for path in downloaded.iterdir()} == {"one-1.0-py3-none-any.whl", "two-1.0-py3-none-any.whl"}
    pip.calls.clear()
    assert Wheelhouse(["one"]).archive("3.9") == (key, archive)
    assert Wheelhouse(["one"]).known_keys() == {"3.9": key}
    assert pip.calls == []


def test_what_only_the_machines_python_needs_is_added(folder: Path) -> None:
    """This pip ignores dependencies, as the real one ignores those with conditions on another Python."""
    conditions = "Requires-Dist: two; python_version < '3.10'\nRequires-Dist: x; extra == 'more'\n"
    wheel(folder, "three", "1.0", conditions)
    assert modules(Wheelhouse(["three"], str(folder)).archive("3.9")[1]) == {"three.py", "two.py"}
    assert modules(Wheelhouse(["three"], str(folder)).archive("3.11")[1]) == {"three.py"}


def test_pip_is_asked_for_pure_wheels_of_the_machines_python(folder: Path, pip: Pip) -> None:
    Wheelhouse(["two"], str(folder)).archive("3.9")
    for call in pip.calls:
        options = dict(zip(call, call[1:]))
        assert "--only-binary=:all:" in call
        assert (options["--python-version"], options["--platform"], options["--abi"]) == ("3.9", "any", "none")
        assert "--no-index" in call


def test_a_folder_that_does_not_exist_is_an_error_with_the_command_that_fills_it() -> None:
    with pytest.raises(NoPackages, match=r"no folder /nowhere on the .*`pip download .* --dest /nowhere one`"):
        Wheelhouse(["one"], "/nowhere")


def test_a_failed_download_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_arguments: Sequence[str]) -> None:
        raise NoPackages("no index")

    monkeypatch.setattr(wheelhouse, "_pip", fail)
    with pytest.raises(NoPackages, match="no index"):
        Wheelhouse(["one"]).archive("3.9")
    assert list((cache / "wheels").iterdir()) == []


def test_of_two_concurrent_downloads_the_first_wins(tmp_path: Path) -> None:
    final = tmp_path / "final"
    with wheelhouse._beside(final) as mine:
        mine.mkdir()
        (mine / "mine").touch()
        final.mkdir()
        (final / "theirs").touch()
    assert [path.name for path in final.iterdir()] == ["theirs"]
