# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration files of the daemons: read with the machine's own table and protocol names, certificates checked."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

from ..model.routes import PROTOCOLS, TABLES
from .agent import AgentConfig
from .common import Names, TlsConfig
from .fields import ConfigError
from .listener import ListenerConfig

# Where iproute2 keeps rt_tables and rt_protos; the later wins (the distribution's, then the machine's own).
IPROUTE2_DIRECTORIES = ("/usr/lib/iproute2", "/usr/share/iproute2", "/etc/iproute2")


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
        raise ConfigError(f"no JSON: {error}") from None


def read_names(directories: Sequence[str] = IPROUTE2_DIRECTORIES) -> Names:
    """Table and protocol names of this machine; the kernel's own where iproute2 has no files."""
    return Names(
        tables=_read_numbers("rt_tables", TABLES, directories),
        protocols=_read_numbers("rt_protos", PROTOCOLS, directories),
    )


def check_tls(tls: TlsConfig | None) -> None:
    """Refuse missing files, and a key that others than its owner can touch."""
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


def _read_numbers(name: str, known: Mapping[str, int], directories: Sequence[str]) -> dict[str, int]:
    """Names and numbers of iproute2's file NAME and of the *.conf files of NAME.d, on top of KNOWN.

    A name of two numbers means the lower one, as it does to `ip`: FRR's file calls 196 `static`, as 4 is.
    """
    names = {number: name for name, number in known.items()}
    for directory in directories:
        for path in [os.path.join(directory, name), *sorted(glob.glob(os.path.join(directory, name + ".d", "*.conf")))]:
            # a machine without iproute2, or without this file, has the kernel's names
            with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
                names.update((pair[1], pair[0]) for pair in map(_number_and_name, file) if pair)
    return {**known, **{names[number]: number for number in sorted(names, reverse=True)}}


def _number_and_name(line: str) -> tuple[str, int] | tuple[()]:
    """Name and number of a line `254 main` or `0xfe main`; () of a comment or anything else."""
    words = line.split("#", 1)[0].split()
    try:
        return (words[1], int(words[0], 0)) if len(words) == 2 else ()
    except ValueError:
        return ()
