# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemons' configuration files: read with the machine's names of tables and protocols, certificates checked."""

from __future__ import annotations

import json
import os
import stat
from typing import Any

from .agent import AgentConfig
from .common import TlsConfig
from .fields import ConfigError
from .listener import ListenerConfig
from .names import read_names


def load_listener(path: str) -> ListenerConfig:
    """The listener's configuration from a JSON file; ConfigError names file and item."""
    try:
        config = ListenerConfig.from_dict(read_json(path), read_names())
        check_tls(config.tls)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return config


def load_agent(path: str) -> AgentConfig:
    """The agent's configuration from a JSON file; ConfigError names file and item."""
    try:
        config = AgentConfig.from_dict(read_json(path), read_names())
        check_tls(config.tls)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return config


def read_json(path: str) -> Any:
    """The document in a JSON file."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}; deploy the configuration first") from None
    except ValueError as error:
        raise ConfigError(f"not valid JSON: {error}; correct the file, or deploy it again") from None


def check_tls(tls: TlsConfig | None) -> None:
    """Refuse missing files, and a key that anyone but its owner can access."""
    if tls is None:
        return
    for name, path in tls.files().items():
        try:
            with open(path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
        except OSError as error:
            raise ConfigError(
                f"tls.{name}: {path} cannot be read: {error.strerror}; deploy the certificates first"
            ) from None
        if name == "key" and stat.S_IMODE(mode) & 0o077:
            raise ConfigError(f"tls.key: {path} has mode {stat.S_IMODE(mode):04o}; run chmod 0600 {path}")
