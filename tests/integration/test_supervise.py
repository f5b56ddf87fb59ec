# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor with real processes: starts, restarts, privileges, signals, and the pid file that is never wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.cli.supervise import running_pid, start_time
from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT
from ansible_collections.ekho.ynl_mirror.tests.support.until import until

LIBRARY = "ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror"
RUN = f"import sys; from {LIBRARY}.cli import main; sys.exit(main.main())"
# A daemon that says who it is, and stops as daemons do.
LIVE = "import os, time; open('pids', 'a').write(f'{os.getpid()}\\n'); time.sleep(60)"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a supervisor of a Python (or other) script; its log is `log`, its pid file `pid`, both in tmp_path."""
    started: list[subprocess.Popen[bytes]] = []

    def starter(script: str, *options: str, shell: str = sys.executable) -> subprocess.Popen[bytes]:
        tmp_path.chmod(0o777)
        command = [sys.executable, "-c", RUN, "supervise", "--pid-file", "pid", *options]
        with open(tmp_path / "log", "ab") as log:
            process = subprocess.Popen(
                [*command, "--", shell, "-c", script],
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT / ".cache" / "collections")},
            )
        started.append(process)
        return process

    yield starter
    for process in started:
        process.kill()
        process.wait(10)


def _pids(tmp_path: Path, count: int) -> list[int]:
    """The pids that the daemon has had, once there are COUNT of them."""
    file = tmp_path / "pids"
    until(lambda: file.exists() and len(file.read_text().split()) >= count)
    return [int(word) for word in file.read_text().split()]


def _gone(pid: int) -> bool:
    return start_time(pid) is None or (f"/proc/{pid}/stat" and " Z " in Path(f"/proc/{pid}/stat").read_text())


def test_a_daemon_that_dies_is_started_again_after_a_growing_pause(tmp_path: Path, start: Any) -> None:
    supervisor = start(LIVE)
    for count in (1, 2, 3):
        os.kill(_pids(tmp_path, count)[-1], signal.SIGKILL)
    _pids(tmp_path, 4)
    pauses = re.findall(r"ended with signal SIGKILL; restarting it in ([\d.]+) s", (tmp_path / "log").read_text())
    assert pauses == ["0.5", "1.0", "2.0"]
    assert supervisor.poll() is None


def test_sigterm_stops_both_and_takes_the_pid_file_away(tmp_path: Path, start: Any) -> None:
    supervisor = start(LIVE)
    pid = _pids(tmp_path, 1)[0]
    assert running_pid(str(tmp_path / "pid")) == supervisor.pid
    supervisor.terminate()
    assert supervisor.wait(10) == 0
    assert _gone(pid)
    assert not (tmp_path / "pid").exists()


def test_sigterm_during_a_pause_stops_at_once(tmp_path: Path, start: Any) -> None:
    supervisor = start("import sys; sys.exit(1)")
    until(lambda: "restarting it in 2.0 s" in (tmp_path / "log").read_text())
    supervisor.terminate()
    assert supervisor.wait(1.5) == 0


def test_sighup_goes_to_the_daemon(tmp_path: Path, start: Any) -> None:
    supervisor = start(
        "import signal, time\n"
        "signal.signal(signal.SIGHUP, lambda *_: open('hup', 'w').close())\n"
        "open('pids', 'w').write('0\\n')\n"
        "while True: time.sleep(0.1)"
    )
    _pids(tmp_path, 1)
    supervisor.send_signal(signal.SIGHUP)
    until((tmp_path / "hup").exists)
    assert supervisor.poll() is None


def test_a_daemon_dies_with_its_supervisor(tmp_path: Path, start: Any) -> None:
    supervisor = start(LIVE)
    pid = _pids(tmp_path, 1)[0]
    supervisor.kill()
    supervisor.wait(5)
    until(lambda: _gone(pid))
    assert running_pid(str(tmp_path / "pid")) is None


def test_a_log_that_grows_too_long_starts_over_and_keeps_one_older(tmp_path: Path, start: Any) -> None:
    # Writes much more than fits, says so, and goes on writing.
    supervisor = start(
        "yes first | head -c 11000000; echo 0 > pids; while sleep 0.1; do echo later; done", shell="/bin/sh"
    )
    _pids(tmp_path, 1)
    log, older = tmp_path / "log", tmp_path / "log.1"
    assert log.stat().st_size > 11_000_000
    supervisor.send_signal(signal.SIGCHLD)  # instead of waiting until it looks by itself
    until(lambda: 0 < log.stat().st_size < 100_000)
    assert set(log.read_text().split()) <= {"later"}
    assert older.read_text().count("first\n") > 1_000_000
    assert supervisor.poll() is None


def test_an_unusable_configuration_is_not_tried_again(tmp_path: Path, start: Any) -> None:
    assert start("import sys; sys.exit(2)").wait(10) == 2
    assert "ended with exit code 2 and is not restarted" in (tmp_path / "log").read_text()


def test_a_second_supervisor_names_the_first(tmp_path: Path, start: Any) -> None:
    first = start(LIVE)
    _pids(tmp_path, 1)
    assert start(LIVE).wait(10) == 1
    assert f"a supervisor is running already, pid {first.pid}; stop it first" in (tmp_path / "log").read_text()
    assert running_pid(str(tmp_path / "pid")) == first.pid


@pytest.mark.skipif(os.geteuid() != 0 and not os.environ.get("CI"), reason="giving up privileges needs root")
@pytest.mark.parametrize(("options", "uid"), [((), "0"), (("--user", "nobody"), "65534")])
def test_the_daemon_keeps_no_privilege_but_net_admin(
    tmp_path: Path, start: Any, options: tuple[str, ...], uid: str
) -> None:
    # Not by this Python: it may live where `nobody` gets no access.
    start("cat /proc/self/status > state; echo 0 > pids; sleep 60", *options, shell="/bin/sh")
    _pids(tmp_path, 1)
    state = dict(line.split(":\t", 1) for line in (tmp_path / "state").read_text().splitlines())
    assert state["Uid"].split() == [uid] * 4
    assert {int(state[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {1 << 12}  # CAP_NET_ADMIN
    assert state["NoNewPrivs"] == "1"


def test_a_user_that_does_not_exist_is_named(tmp_path: Path, start: Any) -> None:
    assert start(LIVE, "--user", "nobody-here").wait(10) == 1
    assert "user nobody-here: does not exist; create it" in (tmp_path / "log").read_text()


def test_a_reused_pid_is_not_taken_for_the_supervisor(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    file.write_text(f"{os.getpid()} {start_time(os.getpid())}\n")
    assert running_pid(str(file)) == os.getpid()
    file.write_text(f"{os.getpid()} 1\n")
    assert running_pid(str(file)) is None
    file.write_text("garbage\n")
    assert running_pid(str(file)) is None
