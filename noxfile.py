# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The matrix: each ansible-core that the collection supports, on the Pythons that it runs on and those it manages.

nox -l                             every session; nox without arguments runs them all
nox -s "sanity(2.21)"              ansible-test sanity; it compiles and imports the files on each Python by itself
nox -s "units(2.21, 3.13)"         tests/unit on a Python, with the ansible-core for what runs on the controller
nox -s "units(3.9)"                and on a Python that manages nothing: without the tests for the controller
nox -s "modules(2.21, 3.9)"        the tests of the modules through Ansible, on machines with this Python
nox -s "roles(2.21)"               roles and Molecule's scenarios in namespaces, on machines with the oldest Python
nox -t 2.21                        all of one ansible-core
nox -s units -- -x -k codec        what follows the dashes goes to pytest

Where a core also runs on the Python of the machines, it does; otherwise it runs on the oldest that it can. Like this
every pair of core and Python occurs, on the controller and on the machine. A Python that is not installed fails its
sessions, and they say which. The environments are kept in .cache/nox; the tests with namespaces need root.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import nox

CHECKOUT = Path(__file__).parent
sys.path.insert(0, str(CHECKOUT / "tests" / "support" / "build"))

from pythons import PYTHONS, WANT_ANSIBLE, find_python  # noqa: E402

#: ansible-core -> those of PYTHONS that it runs on; it manages all of them up to the last of these.
CORES = {
    "2.17": ("3.10", "3.11", "3.12"),
    "2.18": ("3.11", "3.12", "3.13"),
    "2.19": ("3.11", "3.12", "3.13"),
    "2.20": ("3.12", "3.13"),
    "2.21": ("3.12", "3.13"),
}
#: Packages that all of PYTHONS can run; what is newer is tried by `make test`.
PACKAGES = CHECKOUT / "tests" / "requirements-oldest.txt"
MODULES = ("vrf_modules", "service", "systemd", "connection_netns", "callback_story", "example_inventory")

nox.options.default_venv_backend = "venv"
nox.options.envdir = str(CHECKOUT / ".cache" / "nox")
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True
nox.options.error_on_external_run = True


@cache
def interpreter(version: str) -> str:
    """Where that Python is; the version itself where it is nowhere, which nox then reports as missing."""
    return str(find_python(version) or version)


def runs_on(core: str, machine: str) -> str:
    """The Python that a core runs on while it manages machines with another one."""
    return machine if machine in CORES[core] else CORES[core][0]


ONCE = [nox.param(interpreter(pythons[0]), core, id=core, tags=[core]) for core, pythons in CORES.items()]
CONTROLLERS = [
    nox.param(interpreter(python), core, id=f"{core}, {python}", tags=[core])
    for core, pythons in CORES.items()
    for python in pythons
]
MACHINES = [
    nox.param(interpreter(runs_on(core, machine)), core, machine, id=f"{core}, {machine}", tags=[core])
    for core, pythons in CORES.items()
    for machine in PYTHONS[: PYTHONS.index(pythons[-1]) + 1]
]
NO_CORE = [nox.param(interpreter(PYTHONS[0]), None, id=PYTHONS[0], tags=[next(iter(CORES))])]


@nox.session
@nox.parametrize("python,core", ONCE)
def sanity(session: nox.Session, core: str) -> None:
    """Run ansible-test sanity of a core."""
    session.install(f"ansible-core~={core}.0", "-r", str(PACKAGES))
    test(session, "tests/tooling/test_sanity.py")


@nox.session
@nox.parametrize("python,core", [*CONTROLLERS, *NO_CORE])
def units(session: nox.Session, core: str | None) -> None:
    """Run the unit tests."""
    if core:
        session.install(f"ansible-core~={core}.0", "-r", str(PACKAGES))
        test(session, "tests/unit")
    else:
        session.install("-r", str(PACKAGES))
        left_out = [f"--ignore=tests/{name}" for name in WANT_ANSIBLE]
        test(session, "tests/unit", *left_out, "-m", "not controller")


@nox.session
@nox.parametrize("python,core,machine", MACHINES)
def modules(session: nox.Session, core: str, machine: str) -> None:
    """Run the tests of the modules through Ansible, on machines with a Python of their own."""
    through_ansible(session, core)
    files = [f"tests/integration/test_{name}.py" for name in MODULES]
    test(session, *files, YNL_MIRROR_MACHINE_PYTHON=machine_python(session, core, machine))


@nox.session
@nox.parametrize("python,core", ONCE)
def roles(session: nox.Session, core: str) -> None:
    """Run the tests of the roles, and all Molecule scenarios in namespaces, on machines with the oldest Python."""
    plays = ["tests/integration/test_roles.py", "tests/tooling/test_molecule.py"]
    if core == "2.17":
        session.warn("Molecule does not run on ansible-core 2.17: its scenarios are left out")
        through_ansible(session, core)
        plays.pop()
    else:
        through_ansible(session, core, pinned("molecule"))
    machine = machine_python(session, core, PYTHONS[0])
    test(session, *plays, YNL_MIRROR_MACHINE_PYTHON=machine, EKHO_MOLECULE_PYTHON=machine)


def test(session: nox.Session, *arguments: str, **environment: str) -> None:
    """Run pytest."""
    session.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, *session.posargs, env=environment)


def through_ansible(session: nox.Session, core: str, *packages: str) -> None:
    """Install a core, and beside it the collections that roles and tests need: one copy for all environments."""
    session.install(f"ansible-core~={core}.0", "-r", str(PACKAGES), *packages)
    shared = Path(nox.options.envdir, "collections")
    if not (shared / "ansible_collections").exists():
        whichever_core = ("--no-deps", "--ignore-requires-python")
        session.install(*whichever_core, "--target", str(shared), pinned("ansible"))
    (site,) = Path(session.virtualenv.location).glob("lib/python*/site-packages")
    (site / "collections.pth").write_text(f"{shared}\n")


def machine_python(session: nox.Session, core: str, version: str) -> str:
    """The interpreter of the machines: with what the daemons need, and with Ansible for modules run by themselves."""
    place = Path(session.virtualenv.location, "machine")
    pip = [str(place / "bin" / "pip"), "install", "-q"]
    session.run_install(interpreter(version), "-m", "venv", str(place), external=True)
    session.run_install(*pip, "-r", str(PACKAGES), external=True)
    session.run_install(*pip, "--no-deps", "--ignore-requires-python", f"ansible-core~={core}.0", external=True)
    return str(place / "bin" / "python")


def pinned(package: str) -> str:
    """The release of a package that the checkout's own environment has."""
    files = (CHECKOUT / "requirements.txt", CHECKOUT / "tests" / "requirements.txt")
    (line,) = (line for file in files for line in file.read_text().splitlines() if line.startswith(f"{package}=="))
    return line
