# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that run a daemon share: their options (documented in the fragment `service`) and their course."""

from __future__ import annotations

import os
import sys
from typing import Any, Callable

from ..config.fields import ConfigError
from ..config.files import check_tls
from . import deploy, service
from .managers import Manager, Service, ServiceError, choose

OPTIONS: dict[str, Any] = {
    "service_manager": {"type": "str", "choices": ["auto", "systemd", "supervised"], "default": "auto"},
    "user": {"type": "str"},
    "interpreter": {"type": "path"},
    "timeout": {"type": "float", "default": 30.0},
    "config_dir": {"type": "path", "default": "/etc/ynl-mirror"},
    "state_dir": {"type": "path", "default": "/var/lib/ynl-mirror"},
    "runtime_dir": {"type": "path", "default": "/run/ynl-mirror"},
    "log_dir": {"type": "path", "default": "/var/log/ynl-mirror"},
    "lib_dir": {"type": "path", "default": "/usr/local/lib/ynl-mirror"},
    "bin_dir": {"type": "path", "default": "/usr/local/bin"},
    "unit_dir": {"type": "path", "default": "/etc/systemd/system"},
}
TLS: dict[str, Any] = {
    "type": "dict",
    "options": {
        "ca": {"type": "path", "required": True},
        "certificate": {"type": "path", "required": True},
        "key": {"type": "path", "required": True, "no_log": False},  # a path
        "crl": {"type": "path"},
        "crl_optional": {"type": "bool", "default": False},
    },
}
#: Options whose keys are the user's own.
_BY_NAME = ("vrfs", "vrf_limits", "imports")


def run(module: Any, name: str, read: Callable[[dict[str, Any]], Any], options: tuple[str, ...]) -> None:
    """Do what `state` says for the daemon NAME and leave the module.

    READ makes a configuration (with `to_dict`) of the module's OPTIONS, those that are the daemon's own.
    """
    try:
        result = _run(module, name, read, options)
    except (ConfigError, ServiceError, ValueError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        module.fail_json(msg=f"{what}; run as root (become), and see that the directories can be written")
    module.exit_json(**result)


def _run(module: Any, name: str, read: Callable[[dict[str, Any]], Any], options: tuple[str, ...]) -> dict[str, Any]:
    params, check = module.params, module.check_mode
    made = _service(params, name)
    manager = choose(made, params["service_manager"])
    if params["state"] in ("started", "restarted"):
        given = {option: params[option] for option in options if params[option] is not None}
        given["tls"] = _tls(params["tls"])
        # Nothing after a VRF's name is a mistake, which the configuration names, not an option that was left out.
        named = {name: dict(given[name]) for name in _BY_NAME if name in given and None in given[name].values()}
        config = read({**without_none(given), **named, "control_socket": made.control_socket})
        if not check:  # a play that is only checked has not deployed them
            check_tls(config.tls)
        outcome = _start(module, made, manager, config.to_dict())
    elif params["state"] == "stopped":
        outcome = service.ensure_stopped(made, manager, check=check)
    else:
        outcome = service.ensure_absent(made, manager, check=check)
    return {
        "changed": outcome.changed,
        "actions": outcome.actions,
        **({"diff": outcome.diff} if module._diff else {}),
        **service.describe(made, manager),
    }


def _start(module: Any, made: Service, manager: Manager, config: dict[str, Any]) -> service.Outcome:
    program = deploy.program(made.interpreter, made.lib_dir, made.runtime_dir)
    wanted = service.Wanted(made, program, config)
    restart = module.params["state"] == "restarted"
    outcome = service.ensure_running(wanted, manager, restart=restart, check=module.check_mode)
    if not module.check_mode:
        service.wait_ready(made, manager, module.params["timeout"])
        service.wait_reloaded(wanted, manager, module.params["timeout"])
    return outcome


def _service(params: dict[str, Any], name: str) -> Service:
    """The service of the module's options; relative directories are refused."""
    tls = _tls(params["tls"]) or {}
    directories = {option: params[option] for option in OPTIONS if option.endswith("_dir")}
    if params["timeout"] <= 0:
        raise ServiceError(f"timeout: {params['timeout']:g} s are no time to wait; give more than 0")
    for option in [*directories, "interpreter", "rt_protos_dir"]:
        path = params.get(option)
        if path is not None and not os.path.isabs(path):
            raise ServiceError(f"{option}: {path!r} is a relative path; write it from the root (/...)")
    return Service(
        name=name,
        user=params["user"],
        interpreter=params["interpreter"] or sys.executable,
        certificates=tuple(tls[name] for name in ("ca", "certificate", "key") if name in tls),
        crl=tls.get("crl"),
        names_dir=params.get("rt_protos_dir"),
        **directories,
    )


def _tls(given: dict[str, Any] | None) -> dict[str, Any] | None:
    """The daemon's `tls`, which has a revocation list that is optional only where there is one."""
    if given is None:
        return None
    tls = {name: path for name, path in given.items() if name != "crl_optional" and path is not None}
    if given["crl_optional"] and "crl" in tls and not os.path.exists(tls["crl"]):
        del tls["crl"]
    return tls


def without_none(value: Any) -> Any:
    """Options as the configuration has them: suboptions that were left out are absent, not null."""
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_none(item) for item in value]
    return value
