# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the checkout importable as ``ansible_collections.ekho.ynl_mirror`` and offers real network namespaces.

Tests import the library by its full name, as Ansible does::

    from ansible_collections.ekho.ynl_mirror.plugins.module_utils.routes import Route
    from ansible_collections.ekho.ynl_mirror.tests.support.netns import Namespace
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parent.parent
COLLECTIONS = CHECKOUT / ".cache" / "collections"


def _link_checkout() -> None:
    """Make COLLECTIONS/ansible_collections/ekho/ynl_mirror lead to this checkout (the set-up step does the same)."""
    link = COLLECTIONS / "ansible_collections" / "ekho" / "ynl_mirror"
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.resolve() != CHECKOUT:
        link.unlink(missing_ok=True)
        link.symlink_to(CHECKOUT, target_is_directory=True)


_link_checkout()
sys.path.insert(0, str(COLLECTIONS))
# For every ansible command that a test starts.
os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(COLLECTIONS)

from ansible_collections.ekho.ynl_mirror.tests.support.netns import Namespace, NamespaceFactory  # noqa: E402


@pytest.fixture(scope="session")
def _root() -> None:
    """Network namespaces need root. Without it kernel tests are skipped - never in CI, where that would hide them."""
    if os.geteuid() == 0:
        return
    message = "network namespaces need root: run the tests with sudo"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture
def namespaces(_root: None) -> Iterator[NamespaceFactory]:
    """Call it for a fresh network namespace (loopback up); every one is deleted after the test, whatever happened."""
    factory = NamespaceFactory()
    try:
        yield factory
    finally:
        factory.close()


@pytest.fixture
def netns(namespaces: NamespaceFactory) -> Namespace:
    """One fresh network namespace."""
    return namespaces()
