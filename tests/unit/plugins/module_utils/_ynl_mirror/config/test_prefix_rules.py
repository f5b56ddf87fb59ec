# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prefix rules: what one means, and that many of them at once mean the same."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.prefix_rules import (
    PrefixRule,
    PrefixRules,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    WIDTH,
    Prefix,
)


@pytest.mark.parametrize(
    ("rule", "prefix", "matches"),
    [
        ("10.0.0.0/8", "10.1.0.0/16", True),
        ("10.0.0.0/8", "10.0.0.0/8", True),
        ("10.0.0.0/8", "0.0.0.0/0", False),
        ("10.0.0.0/8", "fd00::/8", False),
        ("0.0.0.0/0", "::/0", False),
        ("exact 0.0.0.0/0", "0.0.0.0/0", True),
        ("exact 0.0.0.0/0", "10.0.0.0/8", False),
        ("192.0.2.1", "192.0.2.1/32", True),
        ("exact  ::/0", "::/0", True),
    ],
)
def test_a_rule_means_what_is_inside_it_or_exactly_itself(rule: str, prefix: str, matches: bool) -> None:
    assert PrefixRule.from_text(rule, "rule").matches(Prefix.parse(prefix)) is matches


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    """Few enough that rules and prefixes meet."""
    family = draw(st.sampled_from((AF_INET, AF_INET6)))
    length = draw(st.sampled_from((0, 1, 2, 3, 8, WIDTH[family])))
    return Prefix(family, draw(st.integers(0, min(3, 2**length - 1))) << (WIDTH[family] - length), length)


@given(rules=st.lists(st.builds(PrefixRule, prefixes(), st.booleans())), prefix=prefixes())
def test_rules_together_match_what_any_of_them_does(rules: list[PrefixRule], prefix: Prefix) -> None:
    matching = [rule for rule in rules if rule.matches(prefix)]
    found = PrefixRules(rules).find(prefix.family, prefix.key)
    assert (found in matching) if matching else (found is None)
    assert bool(PrefixRules(rules)) is bool(rules)


@given(rule=prefixes(), exact=st.booleans(), prefix=prefixes())
def test_a_rule_means_what_the_standard_library_says(rule: Prefix, exact: bool, prefix: Prefix) -> None:
    one, other = ipaddress.ip_network(str(rule)), ipaddress.ip_network(str(prefix))
    inside = one.version == other.version and other.subnet_of(one)  # type: ignore[arg-type]
    assert PrefixRule(rule, exact).matches(prefix) is (one == other if exact else inside)


@given(st.builds(PrefixRule, prefixes(), st.booleans()))
def test_a_rule_is_written_as_it_is_read(rule: PrefixRule) -> None:
    assert PrefixRule.from_text(str(rule), "rule") == rule
