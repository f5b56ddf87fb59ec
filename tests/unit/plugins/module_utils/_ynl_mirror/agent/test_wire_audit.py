# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's end of the wire audit."""

from __future__ import annotations

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.adj_rib_in import AdjRibIn
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.agent.wire_audit import WireAudit
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.daemon.tally import WIRE, Tally
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.fpm.audit import (
    BEGIN,
    CHECK,
    DIGEST,
    END,
    FETCH,
    OPEN,
    Message,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    NextHop,
    Path,
    Prefix,
)

SCOPE = (AF_INET, 254)
PATH = Path(AF_INET, protocol=4, nexthops=(NextHop(None, 3),))
KEYS = [Prefix.parse(f"10.0.{number}.0/24").key for number in range(3)]


def test_answers_without_a_question_change_nothing() -> None:
    host = AdjRibIn((254,))
    host.routes[SCOPE] = dict.fromkeys(KEYS, PATH)
    tally = Tally().watch(WIRE)
    audit = WireAudit("host", host, 60.0, tally)
    touched: dict[int, set[int]] = {}
    for what in (OPEN, CHECK, DIGEST, FETCH, BEGIN, END):
        audit.take(Message(what, SCOPE, 1), touched)
    assert (len(host.routes[SCOPE]), touched) == (3, {})
    assert tally == Tally().watch(WIRE)
