# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options and attributes of the modules that run a daemon: config/common.py and install/options.py."""

    DOCUMENTATION = r"""
options:
  tls:
    description:
      - Files for mutual TLS 1.3.
      - Give either this or O(plaintext).
    type: dict
    suboptions:
      ca:
        description: Certificates of the authorities whose peers are accepted, PEM.
        type: path
        required: true
      certificate:
        description: Certificate of this machine, PEM.
        type: path
        required: true
      key:
        description: Private key of this machine, PEM, mode 0600.
        type: path
        required: true
      crl:
        description:
          - Revoked certificates, PEM, one list (CRL) for each authority.
          - A peer with a revoked certificate is refused. All peers are refused once a list is out of date.
          - A running daemon reads a new or changed list without a restart.
        type: path
      crl_optional:
        description: Do without O(tls.crl) where the file does not exist, instead of failing.
        type: bool
        default: false
  plaintext:
    description: Plain TCP instead of TLS, for a trusted network or for FRR's zebra, which has no TLS.
    type: bool
    default: false
  receive_buffer:
    description: Receive buffer of the netlink socket, in bytes.
    type: int
    default: 134217728
  audit_interval:
    description:
      - Seconds between two audits, which find and repair missed changes. V(0) turns them off.
      - An audit compares what the daemon knows with its kernel, and on the agent with what each host sent. It runs
        beside all other work and delays nothing.
    type: float
    default: 60.0
  log_level:
    description: Log level of the daemon.
    type: str
    choices: [debug, info, warning, error]
    default: info
  service_manager:
    description:
      - What keeps the daemon running.
      - V(systemd) writes, enables and starts a unit.
      - V(supervised) starts a background process that restarts the daemon whenever it ends. It does not survive a
        reboot.
      - V(auto) is V(systemd) where PID 1 is systemd and runs in the same network namespace, otherwise V(supervised).
    type: str
    choices: [auto, systemd, supervised]
    default: auto
  user:
    description:
      - System user that the daemon runs as. Empty is root.
      - It has to exist and to be able to read the certificates and the key.
      - CAP_NET_ADMIN is the daemon's only capability, as root too.
    type: str
  interpreter:
    description:
      - Python that the daemon runs with.
      - It has to have the daemon's packages, and O(user) has to be able to run it.
      - The default is the Python that runs the module.
    type: path
  timeout:
    description:
      - Seconds to wait for the daemon to be ready.
      - If it is not ready by then, the task fails with the end of its log.
    type: float
    default: 30.0
  config_dir:
    description: Directory of the configuration file.
    type: path
    default: /etc/ynl-mirror
  state_dir:
    description: Directory of the pid file, without systemd.
    type: path
    default: /var/lib/ynl-mirror
  runtime_dir:
    description: Directory of the control socket.
    type: path
    default: /run/ynl-mirror
  log_dir:
    description: Directory of the log file, without systemd.
    type: path
    default: /var/log/ynl-mirror
  lib_dir:
    description:
      - Directory of the program.
      - Each version has a directory of its own in it, named by its digest.
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
      - Shows the configuration file and the systemd unit. They hold paths of files, no secrets.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled/queried by the module has not changed in a relevant way.
    support: partial
    details:
      - O(state=restarted) restarts the daemon each time.
requirements:
  - On the managed machine Python 3.9 or later. O(interpreter) needs the Python packages C(uvicorn) and
    C(prometheus-client).
  - Linux 5.10 or later, C(setpriv) of util-linux, root.
"""
