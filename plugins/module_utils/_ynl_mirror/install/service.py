# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a daemon, as a service of this machine, into the requested state: program, configuration, process.

The current state is compared first: a second call changes nothing, and a check never does. The daemon is started or
restarted exactly if it does not run, or was started with another program or configuration.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..cli.client import ControlClient, NotReachable, Refused
from ..cli.main import PACKAGES
from ..model.routes import PROTO_MANUAL, PROTO_MIRROR
from . import deploy
from .commands import completed
from .footprint import Footprint
from .managers import DAEMONS, Manager, Service, ServiceError, digest_of_process

POLL_SECONDS = 0.05
# Finds the packages without importing them, which takes a slow machine seconds.
MISSING = f"import importlib.util as u; print('lacks', *[n for n in {list(PACKAGES)} if u.find_spec(n) is None])"
NAMES = f"""\
# Managed by the Ansible collection ekho.ynl_mirror: changes are overwritten.
{PROTO_MIRROR} ynl_mirror
{PROTO_MANUAL} ynl_manual
"""


@dataclass(frozen=True)
class Wanted:
    """The service, its program, and its configuration (the daemon's JSON object)."""

    service: Service
    program: deploy.Program
    config: Mapping[str, Any]

    @property
    def config_text(self) -> str:
        """The configuration file."""
        return _config_text(self.config)

    @property
    def crl(self) -> str | None:
        """The digest of the revocation list, as the daemon reports that of its own; None without one."""
        if self.service.crl is None:
            return None
        try:
            with open(self.service.crl, "rb") as file:
                return hashlib.sha256(file.read()).hexdigest()[:12]
        except FileNotFoundError:  # it does not exist yet in a check before the first run
            return None

    @property
    def digest(self) -> str:
        """Twelve digits that change with everything that needs a restart."""
        settled = _config_text(_without_crl(self.config))
        parts = (self.program.digest, self.program.launcher, settled, str(self.service.options.user))
        digest = hashlib.sha256("\0".join(parts).encode())
        for path in self.service.certificates:
            # it does not exist yet in a check before the first run
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                digest.update(hashlib.sha256(file.read()).digest())
        return digest.hexdigest()[:12]


@dataclass
class Outcome:
    """What was done, or would be done in a check."""

    actions: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether there was anything to do."""
        return bool(self.actions)

    def note_file(self, path: str, text: str | None) -> bool:
        """Compare a file with its wanted text (None: no file), note a difference, and return whether there is one."""
        before = _read(path)
        if before == text:
            return False
        self.actions.append(f"{'remove' if text is None else 'write'} {path}")
        self.diff.append(
            {"before_header": path, "after_header": path, "before": before or "", "after": text or ""},
        )
        return True


def ensure_running(wanted: Wanted, manager: Manager, *, restart: bool, check: bool) -> Outcome:
    """Install program and configuration, and start the daemon with them; does not wait for it to be ready."""
    outcome = Outcome()
    service, chosen = wanted.service, wanted.service.options
    if chosen.user is not None and not check:  # a check has not created it
        _check_user(chosen.user)
    missing = [path for path in _directories(service, manager) if not os.path.isdir(path)]
    outcome.actions.extend(f"create {path}" for path in missing)
    if not deploy.is_deployed(wanted.program, chosen.lib_dir, chosen.bin_dir):
        outcome.actions.append(f"deploy {chosen.lib_dir} ({wanted.program.digest})")
    settled = _settled(_read(service.config_file)) == _settled(wanted.config_text)
    rewritten = outcome.note_file(service.config_file, wanted.config_text)
    definition = manager.definition(wanted.digest)
    if definition is not None:
        outcome.note_file(*definition)
    # Always after a deployment: the daemon may have been started with the files that it replaced.
    more = len(outcome.actions) > (1 if rewritten and settled else 0)
    start = restart or more or digest_of_process(manager.pid()) != wanted.digest
    reload = not start and (rewritten or _used_crl(service) != wanted.crl)
    if start or reload:
        outcome.actions.append(f"{'start' if start else 'reload'} the {service.name}")
    if service.names_file:
        outcome.note_file(service.names_file, NAMES)
    if outcome.changed and not check:
        _check_interpreter(service)
        _make_directories(service, manager)
        if service.names_file:
            deploy.write_file(service.names_file, NAMES, 0o644)
        deploy.deploy(wanted.program, chosen.lib_dir, chosen.bin_dir)
        deploy.write_file(service.config_file, wanted.config_text, 0o644)
        if start:
            manager.start(wanted.digest)
        elif reload:
            manager.reload()
    return outcome


def ensure_stopped(service: Service, manager: Manager, *, check: bool) -> Outcome:
    """Stop the daemon; program and configuration stay."""
    outcome = Outcome()
    if manager.active():
        outcome.actions.append(f"stop the {service.name}")
        if not check:
            manager.stop()
    return outcome


def ensure_absent(service: Service, manager: Manager, *, check: bool) -> Outcome:
    """Stop the daemon and remove all its files; the program stays as long as the other daemon needs it."""
    outcome, chosen = ensure_stopped(service, manager, check=check), service.options
    outcome.note_file(service.config_file, None)
    if service.names_file:
        outcome.note_file(service.names_file, None)
    files = [path for path in [*manager.leftovers(), service.control_socket] if os.path.lexists(path)]
    outcome.actions.extend(f"remove {path}" for path in files)
    alone = not any(os.path.exists(os.path.join(chosen.config_dir, f"{name}.json")) for name in _others(service))
    if alone and deploy.is_present(chosen.lib_dir, chosen.bin_dir):
        outcome.actions.append(f"remove {chosen.lib_dir} and {_launcher(service)}")
    if check or not outcome.changed:
        return outcome
    manager.stop()
    for path in [service.config_file, *files, *([service.names_file] if service.names_file else [])]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    manager.forget()
    if alone:
        deploy.remove(chosen.lib_dir, chosen.bin_dir)
    for directory in (chosen.config_dir, chosen.state_dir, chosen.runtime_dir, chosen.log_dir):
        deploy.remove_empty(directory)
    if alone:
        Footprint(chosen.lib_dir).remove()
    return outcome


def wait_ready(service: Service, manager: Manager) -> None:
    """Return once the daemon is ready; ServiceError with the end of its log if it is not in time."""
    seconds = service.options.timeout
    deadline = time.monotonic() + seconds
    client = ControlClient(service.control_socket, seconds=5.0)
    health: dict[str, Any] | None = None
    while time.monotonic() < deadline:
        health = client.health()
        if health is not None and health.get("ready"):
            return
        if manager.has_failed():
            raise ServiceError(f"the {service.name} exited during its start. {_log_end(manager)}")
        time.sleep(POLL_SECONDS)
    said = "does not answer" if health is None else "is not ready"
    raise ServiceError(
        f"the {service.name} {said} after {seconds:g} s (option timeout). It keeps trying. {_log_end(manager)}"
    )


def wait_reloaded(wanted: Wanted, manager: Manager) -> None:
    """Return once the daemon, which is ready, uses the revocation list; ServiceError if it does not in time."""
    seconds = wanted.service.options.timeout
    deadline = time.monotonic() + seconds
    while _used_crl(wanted.service) != wanted.crl:
        if time.monotonic() > deadline:
            raise ServiceError(
                f"the {wanted.service.name} does not use the revocation list {wanted.service.crl or '(none)'} after "
                f"{seconds:g} s (option timeout), and keeps the previous one. {_log_end(manager)}"
            )
        time.sleep(POLL_SECONDS)


def describe(service: Service, manager: Manager) -> dict[str, Any]:
    """What the module returns about the service; `status` is None if the daemon does not answer."""
    status: dict[str, Any] | None = None
    pid = manager.pid()
    if pid is not None:
        with contextlib.suppress(NotReachable, Refused):
            status = ControlClient(service.control_socket, seconds=5.0).get("/status")
    return {
        "status": status,
        "service": {
            "name": service.name,
            "manager": manager.name,
            "running": pid is not None,
            "pid": pid,
            "digest": digest_of_process(pid),
            "config_file": service.config_file,
            "control_socket": service.control_socket,
            "command": _launcher(service),
            "log_file": getattr(manager, "log_file", None),
        },
    }


def _used_crl(service: Service) -> str | None:
    """The digest of the revocation list that the daemon uses; "" if it does not answer."""
    try:
        status = ControlClient(service.control_socket, seconds=5.0).get("/status")
    except (NotReachable, Refused):
        return ""
    return None if status.get("crl") is None else str(status["crl"])


def _config_text(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=2) + "\n"


def _without_crl(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration without the revocation list, which a running daemon reloads."""
    tls = config.get("tls")
    if not tls:
        return config
    return {**config, "tls": {name: path for name, path in tls.items() if name != "crl"}}


def _settled(text: str | None) -> Mapping[str, Any] | None:
    """The configuration in a file's text, likewise; None if it is none."""
    try:
        return _without_crl(json.loads(text or ""))
    except (ValueError, AttributeError):
        return None


def _directories(service: Service, manager: Manager) -> list[str]:
    chosen = service.options
    made = [chosen.config_dir, chosen.runtime_dir, chosen.lib_dir, chosen.bin_dir]
    if service.names_dir:
        made.append(service.names_dir)
    return [*made, chosen.state_dir, chosen.log_dir] if manager.name == "supervised" else made


def _make_directories(service: Service, manager: Manager) -> None:
    """Create all directories. The daemon's user owns the one for sockets, to write there."""
    chosen = service.options
    Footprint(chosen.lib_dir).make(*_directories(service, manager))
    if chosen.user is not None:
        account = pwd.getpwnam(chosen.user)
        os.chown(chosen.runtime_dir, account.pw_uid, account.pw_gid)


def _check_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise ServiceError(f"user: {name!r} does not exist; create the user, or leave the option out") from None


def _check_interpreter(service: Service) -> None:
    """Refuse a Python that lacks the packages, or that the daemon's user cannot run, such as one in a home."""
    fix = "choose another one (option interpreter, or ansible_python_interpreter), or leave out the option user"
    account: dict[str, Any] = {}
    if service.options.user is not None:
        found = pwd.getpwnam(service.options.user)
        # Like the daemon, without root's exemption from permissions.
        account = {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    try:
        done = completed([service.interpreter, "-c", MISSING], cwd="/", **account)
    except OSError as error:
        raise ServiceError(f"user: {_who(service)} cannot run {service.interpreter}: {error.strerror}; {fix}") from None
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2]
        raise ServiceError(f"user: {_who(service)} cannot use {service.interpreter}: {said}; {fix}")
    word, *modules = done.stdout.split() or [""]
    if word != "lacks":
        raise ServiceError(f"interpreter: {service.interpreter} is not a Python; {fix}")
    missing = [PACKAGES[module] for module in modules]
    if missing:
        raise ServiceError(
            f"{service.interpreter} lacks the Python packages {', '.join(missing)}; run `{service.interpreter} -m pip "
            f"install {' '.join(missing)}`, or choose a Python that has them (option interpreter)"
        )


def _who(service: Service) -> str:
    return service.options.user or "root"


def _log_end(manager: Manager) -> str:
    log = manager.log()
    return f"The end of its log:\n{log}" if log else "It logged nothing."


def _launcher(service: Service) -> str:
    return os.path.join(service.options.bin_dir, deploy.COMMAND)


def _others(service: Service) -> list[str]:
    return [name for name in DAEMONS if name != service.name]


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None
