# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about a machine -> findings: what would keep the mirror from working there, and how to fix it. Pure.

`problem`: the mirror would not work, or would do harm. `warning`: it works, but this should be known or watched.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator

from ..model.routes import table_name
from .facts import OK, PROBLEM, PYTHON_PACKAGES, WARNING, Facts, Finding, Machine, Task, Tls, either
from .judge_dpu import judge_dpu, mine

OLDEST_KERNEL = (5, 10)
OLDEST_PYTHON = (3, 9)
#: Seconds. The machine reads its clock later than the controller, by the time that a task takes to get there.
CLOCK_BEHIND, CLOCK_AHEAD = 30, 120
DAY = 86400
MIB = 1 << 20
#: Memory of an idle daemon, and per route of its tables. bench/README.md: each daemon takes 350 MiB for a million.
DAEMON_MEMORY, ROUTE_MEMORY = 64 * MIB, 400
#: A virtual environment takes some 40 MiB, and the previous one is kept; the program takes less than 2 MiB.
VENV_DISK, PROGRAM_DISK = 100 * MIB, 10 * MIB

RENEWED = "ekho.ynl_mirror.mirror replaces it"


def judge(facts: Facts, task: Task) -> list[Finding]:
    """All findings about a machine, in the order of the report; at least one for each check."""
    found = [*judge_machine(facts.machine, task)]
    if facts.tls is not None:
        found += judge_certificates(facts.tls, task, facts.machine.now)
        found += _judge_names(facts, task)
    found += _judge_buffer(facts, task)
    found += judge_dpu(facts, task)
    found += _judge_host(facts, task)
    return found


# -- the machine ------------------------------------------------------------------------------------------------------


def judge_machine(machine: Machine, task: Task) -> list[Finding]:
    """Kernel, Python, packages, privilege, clock, disk."""
    python = ".".join(map(str, machine.python))
    return [
        *either("kernel", f"Linux {machine.release}, strict netlink dumps", _kernel(machine)),
        *either("python", f"{python} ({machine.executable})", _python(machine, python)),
        *either("packages", _packages_fine(machine, task), _packages(machine, task)),
        *either("privilege", f"uid {machine.uid} with CAP_NET_ADMIN", _privilege(machine)),
        *either("clock", _clock_fine(task), _clock(machine, task)),
        *either("disk", f"{_mib(machine.disk_free)} free at {machine.disk_path}", _disk(machine, task)),
    ]


def _kernel(machine: Machine) -> Iterator[Finding]:
    number = re.match(r"(\d+)\.(\d+)", machine.release)
    if number is None or (int(number[1]), int(number[2])) < OLDEST_KERNEL:
        yield Finding("kernel", PROBLEM, f"Linux {machine.release}", "run Linux 5.10 or later")
    elif machine.strict_dumps:
        fix = "netlink is blocked: check the container's seccomp profile and the LSM"
        yield Finding("kernel", PROBLEM, machine.strict_dumps, fix)


def _python(machine: Machine, python: str) -> Iterator[Finding]:
    if machine.python < OLDEST_PYTHON:
        yield Finding(
            "python",
            PROBLEM,
            f"{python} ({machine.executable})",
            "install Python 3.9 or later and set ansible_python_interpreter to it",
        )


def _packages_fine(machine: Machine, task: Task) -> str:
    if task.packages_from == "none":
        return f"{', '.join(PYTHON_PACKAGES)} are installed"
    if machine.has_venv:
        return "the virtual environment exists"
    return f"a virtual environment will be created from {task.packages_from}"


def _packages(machine: Machine, task: Task) -> Iterator[Finding]:
    variable = f"{task.prefix}_python_packages_from"
    if task.packages_from == "none":
        if machine.missing_packages:
            yield Finding(
                "packages",
                PROBLEM,
                f"{machine.executable} lacks {', '.join(machine.missing_packages)}",
                f"install them, or set {variable} to pip or wheels",
            )
        return
    if task.packages_from == "wheels" and not task.wheels_found:
        fix = (
            f"pip download --dest FOLDER {' '.join(PYTHON_PACKAGES)}; or leave the variable empty, and the controller "
            "downloads them"
        )
        yield Finding("packages", PROBLEM, f"{task.prefix}_wheels_dir does not exist on the controller", fix)
    # Packages from the controller are unpacked, which needs no pip.
    missing = [name for name in machine.missing_for_venv if name == "venv" or task.packages_from == "pip"]
    if missing and not machine.has_venv:
        found = f"{machine.executable} cannot create a virtual environment: no {', '.join(missing)}"
        fix = f"install python3-venv (its name on Debian and Ubuntu), or set {variable} to "
        yield Finding("packages", PROBLEM, found, fix + ("none" if "venv" in missing else "wheels"))


def _privilege(machine: Machine) -> Iterator[Finding]:
    if machine.uid != 0:
        fix = "run with --become: changing kernel routes takes root"
        yield Finding("privilege", PROBLEM, f"modules run as uid {machine.uid}", fix)
    elif not machine.net_admin:
        fix = "grant this container the capability NET_ADMIN"
        yield Finding("privilege", PROBLEM, "root without CAP_NET_ADMIN", fix)


def _clock_fine(task: Task) -> str:
    kept = "synchronised, according to the kernel"
    return kept if task.controller_time is None else f"agrees with the controller's; {kept}"


def _clock(machine: Machine, task: Task) -> Iterator[Finding]:
    off = 0.0 if task.controller_time is None else machine.now - task.controller_time
    if not -CLOCK_BEHIND <= off <= CLOCK_AHEAD:
        level = PROBLEM if task.tls is not None and abs(off) > task.clock_seconds else WARNING
        found = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the controller's"
        yield Finding("clock", level, found, "set it: certificates may look expired, or not yet valid")
    if not machine.clock_kept:
        fix = "run an NTP client: chrony, or `timedatectl set-ntp true`"
        yield Finding("clock", WARNING, "not synchronised, according to the kernel", fix)


def _disk(machine: Machine, task: Task) -> Iterator[Finding]:
    need = VENV_DISK if task.packages_from != "none" and not machine.has_venv else PROGRAM_DISK
    if machine.disk_free < need:
        found = f"{_mib(machine.disk_free)} free at {machine.disk_path}"
        fix = f"the program needs {_mib(need)}: free some space, or set {task.prefix}_lib_dir"
        yield Finding("disk", PROBLEM, found, fix)


def _mib(size: int) -> str:
    return f"{size / MIB:,.0f} MiB"


# -- certificates -----------------------------------------------------------------------------------------------------


def judge_certificates(tls: Tls, task: Task, now: float) -> list[Finding]:
    """The machine's certificate. Where the role mirror_certificates replaces it anyway, a fault is only a warning."""
    files = 3
    if not task.own_certificates and len(tls.absent) == files:
        return [Finding("certificates", OK, "none yet: ekho.ynl_mirror.mirror creates them")]
    level = PROBLEM if task.own_certificates else WARNING
    troubles = [
        Finding("certificates", level, found, fix if task.own_certificates else RENEWED)
        for found, fix in _certificate_troubles(tls, task, now)
    ]
    fine = f"valid until {_day(tls.end)}, for {', '.join(tls.names)}"
    return troubles or either("certificates", fine, _soon(tls, task, now))


def _certificate_troubles(tls: Tls, task: Task, now: float) -> Iterator[tuple[str, str]]:
    """What was found, and the fix where the certificates are the user's own."""
    if tls.absent:
        yield f"no {', '.join(tls.absent)}", "install the files, or let the role mirror_certificates create them"
        return
    if tls.error:
        yield tls.error, "correct the files"
        return
    if tls.chain:
        yield f"peers would reject it: {tls.chain}", f"have it issued by an authority in {task.prefix}_tls.ca"
    if tls.end is not None and now > tls.end:
        yield f"expired on {_day(tls.end)}", "renew it"
    elif tls.start is not None and now < tls.start:
        yield f"not valid before {_day(tls.start)}", "check the clock, or issue a new one"
    if tls.ca_end is not None and now > tls.ca_end:
        yield (
            f"the authority's certificate expired on {_day(tls.ca_end)}",
            "renew it and reissue every certificate that it has signed",
        )
    yield from _not_readable(tls, task) if task.own_certificates else _not_of_the_role(tls, task)


def _not_readable(tls: Tls, task: Task) -> Iterator[tuple[str, str]]:
    if task.user and tls.owner != task.user:
        yield (
            f"the key belongs to {tls.owner}; the daemon's user {task.user} cannot read it",
            f"chown {task.user} {task.tls.key if task.tls else ''}, or set {task.prefix}_user to '' to run as root",
        )


def _not_of_the_role(tls: Tls, task: Task) -> Iterator[tuple[str, str]]:
    if task.authority_sha256 and tls.ca_sha256 != task.authority_sha256:
        yield "not signed by the controller's authority", ""
    missing = [name for name in task.names if name not in tls.names]
    if missing and not tls.chain:
        yield f"issued for {', '.join(tls.names) or 'no name'}, but this machine is {', '.join(missing)}", ""


def _soon(tls: Tls, task: Task, now: float) -> Iterator[Finding]:
    if tls.end is not None and tls.end < now + task.renew_days * DAY:
        fix = "renew it" if task.own_certificates else "ekho.ynl_mirror.mirror renews it"
        yield Finding("certificates", WARNING, f"expires on {_day(tls.end)}", fix)


def judge_authority(tls: Tls, folder: str, now: float, renew_days: int) -> list[Finding]:
    """The authority on the controller: ca.crt and ca.key in *folder*."""
    return either("authority", f"{folder} is valid until {_day(tls.ca_end)}", _authority(tls, folder, now, renew_days))


def _authority(tls: Tls, folder: str, now: float, renew_days: int) -> Iterator[Finding]:
    if "ca.key" in tls.absent and "ca.crt" not in tls.absent:
        yield Finding(
            "authority",
            WARNING,
            f"{folder} has ca.crt but no ca.key",
            "restore ca.key from a backup: otherwise a new authority is created, and machines distrust each other "
            "until the playbook has run on all of them",
        )
    elif tls.absent:
        yield Finding("authority", OK, f"none yet: ekho.ynl_mirror.mirror creates it in {folder}")
    elif tls.error:
        yield Finding("authority", PROBLEM, tls.error, "restore the authority's key and certificate from a backup")
    elif tls.ca_end is not None and tls.ca_end < now + renew_days * DAY:
        found = f"{folder} {'expired' if tls.ca_end < now else 'expires'} on {_day(tls.ca_end)}"
        yield Finding("authority", WARNING, found, "ekho.ynl_mirror.mirror renews it and every machine's certificate")


def _day(when: float | None) -> str:
    if when is None:
        return "an unknown day"
    return datetime.datetime.fromtimestamp(when, datetime.timezone.utc).strftime("%Y-%m-%d")


def _judge_names(facts: Facts, task: Task) -> list[Finding]:
    """Whether peers expect a name that the machine's certificate has, or will have."""
    names = facts.tls.names if facts.tls is not None and task.own_certificates else task.names
    if task.agent:
        expected = [peer.server_name or peer.address for peer in mine(facts, task)]
        found = f"hosts expect a certificate for {', '.join(dict.fromkeys(expected))}"
        fix = f"set server_name in mirror_listener_agents to {' or '.join(names)}"
    else:
        expected = list(task.accepted)
        found = f"dpu_agent_hosts lists {', '.join(expected)}"
        fix = f"add {' or '.join(names)} to dpu_agent_hosts"
    if not names:
        return []
    if expected and not set(expected) & set(names):
        return [Finding("names", PROBLEM, f"{found}, but this machine is {', '.join(names)}", fix)]
    return [Finding("names", OK, f"peers know it as {', '.join(names)}")]


# -- receive buffer, and the listener's host --------------------------------------------------------------------------


def _judge_buffer(facts: Facts, task: Task) -> list[Finding]:
    config = task.agent or task.listener
    if config is None or facts.receive_buffer is None:
        return []
    granted = f"{_mib(facts.receive_buffer)} of {_mib(config.receive_buffer)}"
    if facts.receive_buffer < config.receive_buffer:
        fix = f"sysctl -w net.core.rmem_max={config.receive_buffer} (CAP_NET_ADMIN does not override it here)"
        return [Finding("receive buffer", WARNING, f"the kernel grants {granted}", fix)]
    return [Finding("receive buffer", OK, f"{granted} granted")]


def _judge_host(facts: Facts, task: Task) -> list[Finding]:
    host, listener = facts.host, task.listener
    if host is None or listener is None:
        return []
    routes = ", ".join(f"{count:,} in table {table_name(table)}" for table, count in host.routes.items())
    available = facts.machine.memory_available
    return [
        *either("agents", ", ".join(_reached(facts)), _agents(facts)),
        *either("routes", f"{routes}; {_mib(available)} of memory available", _routes(facts, routes)),
        Finding(
            "ipv6 events",
            OK,
            "net.ipv6.route.skip_notify_on_dev_down=1: the listener reads IPv6 routes again when a link goes down"
            if host.skip_notify
            else "the kernel reports IPv6 routes that go down with their link",
        ),
    ]


def _reached(facts: Facts) -> Iterator[str]:
    for reach in facts.host.reaches if facts.host else ():
        how = "is open" if reach.answer == "connected" else "is closed: reachable, no agent yet"
        yield f"{reach.address} port {reach.port} {how} ({reach.milliseconds:.1f} ms)"


def _agents(facts: Facts) -> Iterator[Finding]:
    reaches = facts.host.reaches if facts.host else ()
    if not reaches:
        yield Finding("agents", PROBLEM, "mirror_listener_agents is empty", "list the agents to send routes to")
    for reach in reaches:
        if reach.answer not in ("connected", "refused"):
            found = f"{reach.address} port {reach.port} is unreachable: {reach.answer}"
            yield Finding(
                "agents", PROBLEM, found, "check the address, the cable, the routes and any firewall in between"
            )


def _routes(facts: Facts, routes: str) -> Iterator[Finding]:
    count = sum(facts.host.routes.values()) if facts.host else 0
    need = DAEMON_MEMORY + count * ROUTE_MEMORY
    if facts.machine.memory_available < need:
        found = f"{routes}; {_mib(facts.machine.memory_available)} of memory available"
        yield Finding("routes", WARNING, found, f"the daemon may need {_mib(need)}: filter routes, or add memory")
