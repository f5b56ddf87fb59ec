# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of routing tables and protocols: iproute2's files rt_tables and rt_protos of this machine."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..model.routes import PROTOCOLS, TABLES
from .fields import ConfigError, as_integer, suggestion

U32 = 2**32 - 1


@dataclass(frozen=True)
class Names:
    """Numbers of tables and protocols by the machine's names for them, as iproute2 reads them."""

    tables: Mapping[str, int] = field(default_factory=lambda: TABLES)
    protocols: Mapping[str, int] = field(default_factory=lambda: PROTOCOLS)

    def table(self, value: object, path: str) -> int:
        """A routing table by number (1..2^32-1) or name."""
        return _number(value, path, self.tables, "rt_tables", range(1, U32 + 1))

    def protocol(self, value: object, path: str) -> int:
        """A route protocol by number (0..255) or name."""
        return _number(value, path, self.protocols, "rt_protos", range(256))


def _number(value: object, path: str, known: Mapping[str, int], file: str, allowed: range) -> int:
    """A number, or a name that has one in KNOWN (iproute2's FILE)."""
    if isinstance(value, str) and not value.isdigit():
        if value not in known:
            raise ConfigError(f"{path}: no number for {value!r} in {file}; {suggestion(value, tuple(known))}")
        return known[value]
    return as_integer(int(value) if isinstance(value, str) else value, path, allowed[0], allowed[-1])


# Where iproute2 keeps rt_tables and rt_protos; later ones override (the distribution's, then the machine's).
IPROUTE2_DIRECTORIES = ("/usr/lib/iproute2", "/usr/share/iproute2", "/etc/iproute2")


def read_names(directories: Sequence[str] = IPROUTE2_DIRECTORIES) -> Names:
    """Table and protocol names of this machine; the kernel's where iproute2 has no files."""
    return Names(
        tables=_read_numbers("rt_tables", TABLES, directories),
        protocols=_read_numbers("rt_protos", PROTOCOLS, directories),
    )


def _read_numbers(name: str, known: Mapping[str, int], directories: Sequence[str]) -> dict[str, int]:
    """Names and numbers in iproute2's file NAME and in the *.conf files of NAME.d, on top of KNOWN.

    A name with two numbers means the lower one, as it does to `ip`: FRR's file calls both 4 and 196 `static`.
    """
    names = {number: name for name, number in known.items()}
    for directory in directories:
        for path in [os.path.join(directory, name), *sorted(glob.glob(os.path.join(directory, name + ".d", "*.conf")))]:
            # a machine without iproute2, or without this file, has the kernel's names
            with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
                names.update((pair[1], pair[0]) for pair in map(_number_and_name, file) if pair)
    return {**known, **{names[number]: number for number in sorted(names, reverse=True)}}


def _number_and_name(line: str) -> tuple[str, int] | tuple[()]:
    """Name and number in a line `254 main` or `0xfe main`; () for a comment or anything else."""
    words = line.split("#", 1)[0].split()
    try:
        return (words[1], int(words[0], 0)) if len(words) == 2 else ()
    except ValueError:
        return ()
