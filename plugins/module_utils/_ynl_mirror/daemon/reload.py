# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGHUP: the configuration and the TLS files are read again, all or nothing; what needs a restart is named.

A configuration or a certificate that cannot be used changes nothing, and the log says why.
"""

from __future__ import annotations

import dataclasses
import logging
import ssl
from typing import Callable, TypeVar

from ..config.agent import AgentConfig
from ..config.common import TlsConfig
from ..config.fields import ConfigError
from ..config.listener import ListenerConfig
from ..fpm.tls import TlsError
from .logs import about

_LOG = logging.getLogger("ynl_mirror.reload")
Config = TypeVar("Config", AgentConfig, ListenerConfig)

#: What takes effect at once. All else waits for a restart, as does `tls` where it is new or gone.
LIVE_IN_AGENT = (
    *("tls", "hosts", "host_policies", "host_defaults", "vrf_limits", "inference", "static", "imports"),
    *("host_links", "metric", "settle_time", "log_level"),
)
LIVE_IN_LISTENER = ("tls", "filters", "log_level")


def read_again(
    used: Config,
    read: Callable[[], Config] | None,
    live: tuple[str, ...],
    make_context: Callable[[TlsConfig], ssl.SSLContext],
) -> tuple[Config, ssl.SSLContext | None] | None:
    """The configuration to go on with, and its TLS context; None (and a word in the log) when it cannot be used.

    READ reads the file that the configuration USED came from; None where there is no file. LIVE are the fields that
    may change while the daemon runs.
    """
    try:
        found = used if read is None else read()
        config, waiting = _merged(used, found, live)
        context = None if config.tls is None else make_context(config.tls)
    except (ConfigError, TlsError) as error:
        text = f"SIGHUP: {error}; configuration and certificates stay as they were"
        _LOG.error("%s", text, extra=about(reason=error))
        return None
    if waiting:
        _LOG.warning("SIGHUP: %s: changed, which takes effect when the daemon is started again", ", ".join(waiting))
    logging.getLogger().setLevel(config.log_level.upper())
    return config, context


def _merged(used: Config, found: Config, live: tuple[str, ...]) -> tuple[Config, list[str]]:
    """FOUND as far as it may take effect now, and the names of what may not."""
    names = [field.name for field in dataclasses.fields(used) if field.name not in live]
    waiting = [name for name in names if getattr(used, name) != getattr(found, name)]
    old = {name: getattr(used, name) for name in waiting}
    if "plaintext" in waiting:  # then one of the two has no TLS files
        old["tls"] = used.tls
    return dataclasses.replace(found, **old), waiting
