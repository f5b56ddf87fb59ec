# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `ynl-mirror`: runs the daemons, and queries running ones.

Exit codes: 0 success; 1 not mirrored, or not ready; 2 wrong usage or configuration; 3 no daemon answers.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..config.agent import AgentConfig
from ..config.common import CAPTURE_LIMIT, CaptureConfig
from ..config.fields import ConfigError
from ..config.files import load_agent, load_listener
from ..config.listener import ListenerConfig
from ..daemon import logs
from . import show
from .client import ControlClient, NotReachable, Refused

Config = TypeVar("Config", ListenerConfig, AgentConfig)
FINE, NOT_MIRRORED, USAGE, UNREACHABLE = 0, 1, 2, 3
RUNTIME_DIR = "/run/ynl-mirror"
MIRRORED = "offloaded"
# Python module: package
PACKAGES = {"uvicorn": "uvicorn", "prometheus_client": "prometheus-client"}

EPILOG = """\
exit codes: 0 success; 1 not mirrored, or not ready; 2 wrong usage or configuration; 3 no daemon answers

examples:
  ynl-mirror status
  ynl-mirror routes --state slow_path
  ynl-mirror explain 192.168.12.0/24
  ynl-mirror watch --json | jq .prefix
  ynl-mirror agent --config /etc/ynl-mirror/agent.json --check
  ynl-mirror replay bug.pcapng
"""


def main(argv: Sequence[str] | None = None, runtime_dir: str = RUNTIME_DIR) -> int:
    """Run the command; RUNTIME_DIR has the control sockets of this installation. Returns the exit code."""
    arguments = _parser(runtime_dir).parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except ConfigError as error:
        return _complain(USAGE, error)
    except Refused as error:
        return _complain(USAGE if error.status < 500 else NOT_MIRRORED, error)
    except NotReachable as error:
        return _complain(UNREACHABLE, error)
    except BrokenPipeError:  # `ynl-mirror routes | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except KeyboardInterrupt:
        return 130
    return code


def _parser(runtime_dir: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ynl-mirror",
        description="Mirrors a host's kernel routes into the VRFs of a DPU.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, run, text in (
        ("listener", _listener, "run the listener: follow this host's routes and announce them to the agents"),
        ("agent", _agent, "run the agent: map announced routes and install them in this machine's VRFs"),
    ):
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_argument("--config", metavar="FILE", required=True, help="configuration file (JSON)")
        command.add_argument(
            "--capture", metavar="FILE", help="record all netlink messages of the kernel, for `ynl-mirror replay`"
        )
        command.add_argument("--check", action="store_true", help="check the configuration and exit")
        command.set_defaults(run=run)
    _add_queries(commands, runtime_dir)
    _add_replay(commands)
    supervise = commands.add_parser("supervise", help="restart a daemon whenever it ends, on machines without systemd")
    supervise.add_argument("--pid-file", metavar="FILE", required=True, help="where to write the pid of the supervisor")
    supervise.add_argument("--user", metavar="NAME", help="run the daemon as this user, with CAP_NET_ADMIN only")
    supervise.add_argument("command", nargs="+", metavar="COMMAND", help="after `--`: the daemon and its arguments")
    supervise.set_defaults(run=_supervise)
    return parser


def _add_queries(commands: Any, runtime_dir: str) -> None:
    """The commands that query a running daemon."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--socket",
        metavar="PATH",
        help=f"control socket of the daemon, or `agent` or `listener` (default: the only one in {runtime_dir})",
    )
    common.add_argument("--json", action="store_true", help="print JSON, one object per line")
    common.set_defaults(runtime_dir=runtime_dir)
    status = commands.add_parser("status", parents=[common], help="show the daemon's status (exit code 1: not ready)")
    status.set_defaults(run=_status)
    routes = commands.add_parser("routes", parents=[common], help="list routes: state, reason, and where installed")
    routes.add_argument("--state", help="only routes in this state: pending, offloaded, failed or slow_path")
    routes.add_argument("--prefix", help="only this prefix, for example 192.0.2.0/24")
    routes.set_defaults(run=_routes)
    watch = commands.add_parser("watch", parents=[common], help="print changes as they happen, until interrupted")
    watch.set_defaults(run=_watch)
    explain = commands.add_parser(
        "explain",
        parents=[common],
        help="show what becomes of a prefix or address, step by step (exit code 1: not offloaded)",
    )
    explain.add_argument("prefix", help="for example 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")
    explain.set_defaults(run=_explain)


def _add_replay(commands: Any) -> None:
    text = "replay a capture through the code of the daemons, and print the changes as `watch` does"
    replay = commands.add_parser(
        "replay",
        help=text,
        description=f"{text[0].upper()}{text[1:]}, each with its time. It needs no daemon and no privileges.",
        epilog="exit codes: 0 success; 1 the file is damaged, or the code fails on it (after printing what precedes); "
        "2 wrong usage",
    )
    replay.add_argument(
        "file", metavar="FILE", help="capture made by `listener --capture FILE` or `agent --capture FILE`"
    )
    replay.add_argument("--json", action="store_true", help="print JSON, one object per line")
    replay.add_argument(
        "--until", metavar="TIME", help="stop at this time, for example 2026-11-23T09:00:00Z (without Z: local time)"
    )
    replay.set_defaults(run=_replay)


def _listener(arguments: argparse.Namespace) -> int:
    def read() -> ListenerConfig:
        return _with_capture(load_listener(arguments.config), arguments.capture)

    config = read()
    if arguments.check:
        return _checked(arguments.config)
    _prepare("listener", config.log_level)
    from ..listener.listener import run

    return _guarded(run, config, read)


def _agent(arguments: argparse.Namespace) -> int:
    def read() -> AgentConfig:
        return _with_capture(load_agent(arguments.config), arguments.capture)

    config = read()
    if arguments.check:
        return _checked(arguments.config)
    _prepare("agent", config.log_level)
    from ..agent.agent import run

    return _guarded(run, config, read)


def _with_capture(config: Config, file: str | None) -> Config:
    """The configuration, with the capture file of the command line."""
    if file is None:
        return config
    limit = config.capture.limit if config.capture else CAPTURE_LIMIT
    return replace(config, capture=CaptureConfig(os.path.abspath(file), limit))


def _checked(path: str) -> int:
    sys.stdout.write(f"{path}: valid\n")
    return FINE


def _prepare(name: str, log_level: str) -> None:
    """Set up the log, and check the Python packages."""
    logs.configure(log_level.upper(), f"ynl-mirror-{name}")
    _need(PACKAGES)


def _need(packages: Mapping[str, str]) -> None:
    """Report missing Python packages before anything starts."""
    for module, package in packages.items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ConfigError(
                f"Python package {package}: {error}; install it for {sys.executable}, for example with "
                f"`{sys.executable} -m pip install {package}`"
            ) from None


def _guarded(run: Any, config: Any, read: Any) -> int:
    """Run a daemon; an error of the system at its start (address in use ...) is printed in one line."""
    try:
        return int(run(config, read))
    except OSError as error:
        logging.getLogger("ynl_mirror").debug("the daemon ended", exc_info=True)
        return _complain(NOT_MIRRORED, error)


def _supervise(arguments: argparse.Namespace) -> int:
    from .supervise import AlreadySupervised, supervise

    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return supervise(arguments.command, arguments.pid_file, arguments.user)
    except (AlreadySupervised, OSError) as error:
        return _complain(NOT_MIRRORED, error)


def _replay(arguments: argparse.Namespace) -> int:
    from ..capture import pcapng
    from ..capture.replay import Fault, NotACapture, Replay, parse_time

    try:
        until = None if arguments.until is None else parse_time(arguments.until)
    except ValueError:
        raise ConfigError(f"--until: {arguments.until!r} is not a time, for example 2026-11-23T09:00:00Z") from None
    replay, code = Replay(), FINE
    try:
        with open(arguments.file, "rb") as file:
            for item in pcapng.read(file):
                if isinstance(item, pcapng.Packet) and until is not None and item.time > until:
                    break
                _show_changes(replay.feed(item), arguments)
            _show_changes(replay.finish(), arguments)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _complain(USAGE, f"{arguments.file}: {error.strerror}")
    except (pcapng.Damaged, NotACapture, Fault) as error:
        _show_changes(replay.finish(), arguments)
        code = _complain(NOT_MIRRORED, f"{arguments.file}: {error}")
    if replay.counts["starts"]:
        show.status(replay.summary(), as_json=arguments.json)
    elif code == FINE:
        code = _complain(NOT_MIRRORED, f"{arguments.file}: the capture is empty")
    return code


def _show_changes(changes: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    for change in changes:
        show.change(change, as_json=arguments.json)


def _status(arguments: argparse.Namespace) -> int:
    client = _client(arguments)
    status = client.get("/status")
    ready = bool((client.health() or {}).get("ready"))
    show.status({**status, "ready": ready}, as_json=arguments.json)
    return FINE if ready else NOT_MIRRORED


def _routes(arguments: argparse.Namespace) -> int:
    for route in _client(arguments).lines("/routes", state=arguments.state, prefix=arguments.prefix):
        show.route(route, as_json=arguments.json)
    return FINE


def _watch(arguments: argparse.Namespace) -> int:
    with contextlib.closing(_client(arguments, seconds=None).lines("/watch")) as changes:
        for change in changes:
            show.change(change, as_json=arguments.json)
    return _complain(UNREACHABLE, "the daemon has stopped; start it and watch again")


def _explain(arguments: argparse.Namespace) -> int:
    answer = _client(arguments).get("/explain", prefix=arguments.prefix)
    show.explanation(answer, as_json=arguments.json)
    return FINE if answer.get("state") == MIRRORED else NOT_MIRRORED


def _client(arguments: argparse.Namespace, seconds: float | None = 30.0) -> ControlClient:
    """A client of the socket that was given, or of the only one that this installation has."""
    names = {name: os.path.join(arguments.runtime_dir, name + ".sock") for name in ("agent", "listener")}
    if arguments.socket is not None:
        return ControlClient(names.get(arguments.socket, arguments.socket), seconds)
    found = [path for path in names.values() if os.path.exists(path)]
    if len(found) > 1:
        raise ConfigError("agent and listener both run here: add `--socket agent` or `--socket listener`")
    if not found:
        raise NotReachable(f"{arguments.runtime_dir}: no control socket of a daemon; start one, or set --socket")
    return ControlClient(found[0], seconds)


def _complain(code: int, error: object) -> int:
    sys.stderr.write(f"ynl-mirror: {error}\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
