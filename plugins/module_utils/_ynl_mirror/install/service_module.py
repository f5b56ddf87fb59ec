# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that run a daemon share: their arguments (see the fragment `service`) and what they do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..config import options
from ..config.fields import ConfigError
from ..config.files import check_tls
from ..config.names import read_names
from . import deploy, service
from .managers import Manager, Service, ServiceError, choose
from .options import Daemon

STATE = {"type": "str", "choices": ["started", "stopped", "restarted", "absent"], "default": "started"}


def argument_spec(daemon: Daemon) -> dict[str, Any]:
    """The arguments of the module that runs a daemon."""
    own = options.argument_spec(daemon.config)
    # Not known to the daemon: the module decides whether the daemon gets a list.
    own["tls"]["options"]["crl_optional"] = {"type": "bool", "default": False}
    return {"state": STATE, **own, **options.argument_spec(daemon.service)}


def run(module: Any, daemon: Daemon) -> None:
    """Bring a daemon into the requested state, and exit the module."""
    try:
        result = _run(module, daemon)
    except (ConfigError, ServiceError, ValueError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        module.fail_json(msg=f"{what}; run as root (become), and check that the directories are writable")
    module.exit_json(**result)


def _run(module: Any, daemon: Daemon) -> dict[str, Any]:
    params, check = module.params, module.check_mode
    made = _service(params, daemon)
    manager = choose(made, made.options.service_manager)
    if params["state"] in ("started", "restarted"):
        given = {**_given(params, daemon), "control_socket": made.control_socket}
        config = daemon.config.from_dict(given, read_names())
        if not check:  # a check has not deployed them
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
    program = deploy.program(made.interpreter, made.options.lib_dir, made.options.runtime_dir)
    wanted = service.Wanted(made, program, config)
    restart = module.params["state"] == "restarted"
    outcome = service.ensure_running(wanted, manager, restart=restart, check=module.check_mode)
    if not module.check_mode:
        service.wait_ready(made, manager)
        service.wait_reloaded(wanted, manager)
    return outcome


def _service(params: Mapping[str, Any], daemon: Daemon) -> Service:
    """The service of the module's options; ConfigError names one that cannot be used."""
    given = {option: params[option] for option in options.argument_spec(daemon.service) if params[option] != ""}
    tls = _tls(params["tls"]) or {}
    return Service(
        name=daemon.name,
        options=daemon.service.from_dict(given),
        certificates=tuple(tls[file] for file in ("ca", "certificate", "key") if file in tls),
        crl=tls.get("crl"),
    )


def _given(params: Mapping[str, Any], daemon: Daemon) -> dict[str, Any]:
    """The daemon's options as they were given."""
    given: dict[str, Any] = {}
    for option, argument in options.argument_spec(daemon.config).items():
        value = params[option]
        names_are_the_users = argument["type"] == "dict" and "options" not in argument
        # A VRF's name without a value is a mistake, and is reported. Elsewhere null means that it was left out.
        given[option] = value if names_are_the_users and None in value.values() else without_none(value)
    return {**given, "tls": _tls(params["tls"])}


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
