# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints a daemon's answers: terse lines in the manner of iproute2, coloured on a terminal, or its JSON as it is."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

COLOURS = {"installed": 32, "offloaded": 32, "pending": 33, "unmapped": 33, "failed": 31}  # green, yellow, red
FIRST = ("event", "prefix", "state")  # of a change, before the rest


def status(answer: Mapping[str, Any], *, as_json: bool) -> None:
    """The answer of /status: a line a field, lists below their field."""
    if as_json:
        _print_json(answer)
        return
    for name, value in answer.items():
        if isinstance(value, (list, tuple)) and value:
            _line(f"{name}:")
            for item in value:
                _line(f"    {_words(item)}")
        else:
            _line(f"{name}: {_words(value)}")


def route(answer: Mapping[str, Any], *, as_json: bool) -> None:
    """A line of /routes: prefix, state, the reason if there is one; below, where the route is."""
    if as_json:
        _print_json(answer)
        return
    _line(f"{answer.get('prefix')} {_state(answer)}")
    for installed in answer.get("routes") or ():
        _line(f"    {_words(installed)}")


def change(answer: Mapping[str, Any], *, as_json: bool) -> None:
    """A line of /watch, at once."""
    if as_json:
        _print_json(answer)
    else:
        first = [_coloured(str(answer[name])) for name in FIRST if answer.get(name) is not None]
        rest = _words({name: value for name, value in answer.items() if name not in FIRST})
        _line(" ".join([*first, rest]).rstrip())
    sys.stdout.flush()


def explanation(answer: Mapping[str, Any], *, as_json: bool) -> None:
    """The answer of /explain: the state, each step, and where the route is."""
    if as_json:
        _print_json(answer)
        return
    _line(f"{answer.get('prefix')} {_state(answer)}")
    for number, step in enumerate(answer.get("steps") or (), start=1):
        _line(f"  {number}. {_words(step)}")
    for installed in answer.get("routes") or ():
        _line(f"    {_words(installed)}")


def _line(text: str) -> None:
    """One line of output: the command's own print(), which would be a fault in a module's code."""
    sys.stdout.write(f"{text}\n")


def _state(answer: Mapping[str, Any]) -> str:
    """The state, and the reason when something is not as wanted."""
    state = _coloured(str(answer.get("state") or "unknown"))
    return f"{state}: {answer['reason']}" if answer.get("reason") else state


def _words(value: Any) -> str:
    """A value as iproute2 would print it: `vrf b dev eth3`; absent ones are left out."""
    if isinstance(value, Mapping):
        return " ".join(f"{name} {_words(item)}" for name, item in value.items() if item not in (None, "", [], {}))
    if isinstance(value, (list, tuple)):
        return ",".join(_words(item) for item in value) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return "-" if value is None else str(value)


def _coloured(word: str) -> str:
    colour = COLOURS.get(word)
    if colour is None or not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return word
    return f"\033[{colour}m{word}\033[0m"


def _print_json(answer: Mapping[str, Any]) -> None:
    _line(json.dumps(answer, separators=(",", ":")))
