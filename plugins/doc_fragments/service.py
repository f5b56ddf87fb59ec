# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options and attributes of the modules that run a daemon, as in install/service_module.py."""

    DOCUMENTATION = r"""
options:
  service_manager:
    description:
      - What keeps the daemon running.
      - V(systemd) writes, enables and starts a unit, V(supervised) a background process that starts the daemon again
        whenever it ends, and does not survive a reboot.
      - V(auto) is V(systemd) where PID 1 is systemd and is in the same network namespace, else V(supervised).
    type: str
    choices: [auto, systemd, supervised]
    default: auto
  user:
    description:
      - User that the daemon runs as. It has to exist, and has to be able to read the certificates and the key.
      - Without one the daemon runs as root, but either way with CAP_NET_ADMIN as its only capability.
    type: str
  interpreter:
    description:
      - Python that the daemon runs with. It has to have the packages, and O(user) has to be able to run it.
      - The one that runs the module when left out.
    type: path
  timeout:
    description:
      - Seconds to wait for the daemon to be ready. When it is not by then the task fails with the end of its log.
    type: float
    default: 30.0
  config_dir:
    description: Directory of the configuration file.
    type: path
    default: /etc/ynl-mirror
  state_dir:
    description: Directory of the pid file of the supervised process.
    type: path
    default: /var/lib/ynl-mirror
  runtime_dir:
    description: Directory of the control socket.
    type: path
    default: /run/ynl-mirror
  log_dir:
    description: Directory of the log of the supervised process. With systemd the journal has it.
    type: path
    default: /var/log/ynl-mirror
  lib_dir:
    description: Directory of the program. Each version has a directory of its own in it, named by its digest.
    type: path
    default: /usr/local/lib/ynl-mirror
  bin_dir:
    description: Directory of the command C(ynl-mirror).
    type: path
    default: /usr/local/bin
  unit_dir:
    description: Directory of the systemd unit.
    type: path
    default: /etc/systemd/system
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: full
    details:
      - Shows the configuration file and the systemd unit. Neither has a secret in it, only paths of files.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled/queried by the module has not changed in a relevant way.
    support: partial
    details:
      - O(state=restarted) starts the daemon again each time.
requirements:
  - On the managed machine Python 3.9 or later. The O(interpreter) that runs the daemon needs the Python packages
    C(uvicorn) and C(prometheus-client).
  - Linux 5.10 or later, C(setpriv) of util-linux, root.
"""
