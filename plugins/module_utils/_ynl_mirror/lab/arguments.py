# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module options that describe a lab (documented in the doc fragment `topology`)."""

from __future__ import annotations

from typing import Any

VRF = {"name": {"type": "str", "required": True}, "table": {"type": "int", "required": True}}
INTERFACE = {
    "name": {"type": "str", "required": True},
    "vrf": {"type": "str"},
    "addresses": {"type": "list", "elements": "str", "default": []},
}
ROUTE = {
    "dst": {"type": "str", "required": True},
    "gateway": {"type": "str", "required": True},
    "vrf": {"type": "str"},
    "table": {"type": "int"},
}
RULE = {"priority": {"type": "int", "required": True}, "table": {"type": "int", "required": True}}
HOST = {
    "name": {"type": "str", "required": True},
    "vrfs": {"type": "list", "elements": "dict", "default": [], "options": VRF},
    "interfaces": {"type": "list", "elements": "dict", "default": [], "options": INTERFACE},
    "routes": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": ROUTE,
        "mutually_exclusive": [("vrf", "table")],
    },
    "rules": {"type": "list", "elements": "dict", "default": [], "options": RULE},
    "sysctls": {"type": "dict", "default": {}},
}
TOPOLOGY: dict[str, Any] = {
    "hosts": {"type": "list", "elements": "dict", "default": [], "options": HOST},
    "links": {"type": "list", "elements": "list", "default": []},
}
