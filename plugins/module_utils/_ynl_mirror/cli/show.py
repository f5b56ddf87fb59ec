# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints a daemon's answers: terse lines in the style of iproute2, coloured on a terminal, or the JSON unchanged."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

COLOURS = {"offloaded": 32, "pending": 33, "slow_path": 33, "failed": 31}  # green, yellow, red


def status(answer: Mapping[str, Any], *, as_json: bool) -> None:
    """The answer of /status: one line per field, lists below their field."""
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
    """A line of /routes: the announced route and its state; below it the reason, and where the route is installed."""
    if as_json:
        _print_json(answer)
    else:
        _line(_headline(answer))
        _print_below(answer)


def change(answer: Mapping[str, Any], *, as_json: bool) -> None:
    """A line of /watch, at once."""
    if as_json:
        _print_json(answer)
    else:
        known = (
            "event",
            "prefix",
            "table",
            "announced",
            "nexthops",
            "protocol",
            "metric",
            "state",
            "reason",
            "installed",
        )
        words = [str(answer.get("event")), _headline(answer) if answer.get("prefix") else ""]
        words += [_place(installed) for installed in answer.get("installed") or ()]
        words.append(_words({name: value for name, value in answer.items() if name not in known}))
        _line(" ".join(word for word in (*words, str(answer.get("reason") or "")) if word))
    sys.stdout.flush()


def explanation(answer: Mapping[str, Any], *, as_json: bool) -> None:
    """The answer of /explain: the routes of the prefix as in /routes, and the steps that led there."""
    if as_json:
        _print_json(answer)
        return
    routes = answer.get("routes") or [answer]
    for found in routes:
        _line(_headline(found))
        _print_below(found)
    for number, step in enumerate(answer.get("steps") or (), start=1):
        _line(f"  {number}. {step}")


def _headline(answer: Mapping[str, Any]) -> str:
    """`192.0.2.0/24 via 198.51.100.1 dev eth1 proto static offloaded`, in the style of `ip route`."""
    announced = answer.get("announced")
    words = [str(answer["type"])] if answer.get("type") else []
    words.append(str(answer.get("prefix")))
    words.append("announced " + _path(announced) if isinstance(announced, Mapping) else _path(answer))
    if answer.get("table") not in (None, "main"):
        words.append(f"table {answer['table']}")
    if "state" in answer:
        words.append(_coloured(str(answer["state"] or "unknown")))
    return " ".join(word for word in words if word)


def _print_below(answer: Mapping[str, Any]) -> None:
    """The reason, the routes installed, and the agents if their states differ."""
    if answer.get("reason"):
        _line(f"    {answer['reason']}")
    for installed in answer.get("installed") or ():
        _line(f"    {_place(installed)}")
    agents = answer.get("agents") or {}
    if len({given.get("state") for given in agents.values()}) > 1:
        for name, given in agents.items():
            _line(f"    agent {name} {_coloured(str(given.get('state')))}")


def _place(installed: Mapping[str, Any]) -> str:
    """Where a route is installed: `vrf b dev eth3 proto ynl_mirror`."""
    place = f"vrf {installed['vrf']}" if installed.get("vrf") else f"table {installed.get('table')}"
    return f"{place} {_path(installed)}"


def _path(answer: Mapping[str, Any]) -> str:
    """The path of a route: next hops, protocol, and a metric that is not 0."""
    hops = [words for words in map(_hop, answer.get("nexthops") or ()) if words]  # a host's link has no name here
    words = [f"nexthop {hop}" for hop in hops] if len(hops) > 1 else hops
    if answer.get("protocol") is not None:
        words.append(f"proto {answer['protocol']}")
    if answer.get("metric"):
        words.append(f"metric {answer['metric']}")
    return " ".join(words)


def _hop(hop: Mapping[str, Any]) -> str:
    names = (("gateway", "via"), ("dev", "dev"), ("weight", "weight"))
    return " ".join(f"{word} {hop[name]}" for name, word in names if hop.get(name) is not None)


def _words(value: Any) -> str:
    """A value as iproute2 would print it: `vrf b dev eth3`; empty ones are left out."""
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
    text = word.replace("_", " ")
    if colour is None or not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\033[{colour}m{text}\033[0m"


def _print_json(answer: Mapping[str, Any]) -> None:
    _line(json.dumps(answer, separators=(",", ":")))


def _line(text: str) -> None:
    """Print one line; not by print(), which sanity tests forbid in module_utils."""
    sys.stdout.write(f"{text}\n")
