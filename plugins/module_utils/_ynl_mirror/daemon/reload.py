# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGHUP: the configuration and the TLS files are read again, all or nothing; what needs a restart is named.

Which options take effect at once is said by their table. A configuration or a certificate that cannot be used changes
nothing, and the log says why.
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
from ..config.options import options
from ..fpm.tls import TlsError
from .logs import about

_LOG = logging.getLogger("ynl_mirror.daemon.reload")
Config = TypeVar("Config", AgentConfig, ListenerConfig)


def read_again(
    used: Config,
    read: Callable[[], Config] | None,
    make_context: Callable[[TlsConfig], ssl.SSLContext],
) -> tuple[Config, ssl.SSLContext | None] | None:
    """The configuration to continue with, and its TLS context; None, with the reason in the log, if it cannot be used.

    READ reads the file that the configuration USED came from; None where there is no file.
    """
    try:
        found = used if read is None else read()
        config, waiting = _merged(used, found)
        context = None if config.tls is None else make_context(config.tls)
    except (ConfigError, TlsError) as error:
        text = f"SIGHUP: {error}; configuration and certificates are unchanged"
        _LOG.error("%s", text, extra=about(reason=error))
        return None
    if waiting:
        _LOG.warning("SIGHUP: %s: changed, takes effect at the next restart", ", ".join(waiting))
    logging.getLogger().setLevel(config.log_level.upper())
    return config, context


def _merged(used: Config, found: Config) -> tuple[Config, list[str]]:
    """FOUND as far as it may take effect now, and the names of the options that wait for a restart."""
    fixed = [known.name for known in options(type(used)) if not known.reloadable]
    waiting = [name for name in fixed if getattr(used, name) != getattr(found, name)]
    old = {name: getattr(used, name) for name in waiting}
    if "plaintext" in waiting:  # one of the two has no TLS files, so these wait as well
        old["tls"] = used.tls
    return dataclasses.replace(found, **old), waiting
