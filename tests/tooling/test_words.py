# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One word for one thing, in the field's own terms: words and phrases that no text of the project uses.

All text counts: documentation, messages, task names, comments, docstrings, names of tests and options. A word with a
second, proper meaning is allowed in the files where it has that meaning, each with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import pytest

from ansible_collections.ekho.ynl_mirror.tests.support.build.tools import CHECKOUT, checkout_files

#: Texts of others, recorded data, pictures, and this list.
LEFT_OUT = re.compile(
    r"LICENSE|LICENSES/.*|.*\.(svg|png|pcapng)|bench/results/.*|docs/report\.json|tests/unit/data/.*|"
    r"tests/tooling/test_words\.py"
)
#: What may stand between two words of a phrase.
WITHIN_A_PHRASE = re.compile(r"""[ \t_'`-]+|[ \t'`]*(["']?)[ \t]*\n[ \t]*([#>*]:?[ \t]*|f?\1)[ \t`]*""")


class Banned(NamedTuple):
    """A word or phrase as a regular expression, what to say instead, and where (beginning of a path) it is right."""

    pattern: str
    instead: str
    allowed: Mapping[str, str] = MappingProxyType({})


SYSTEMD = "systemd's journal"
BANNED = (
    Banned(r"so many", "this many, or the name of the number"),
    # -- terms
    Banned(r"blast radius", "mass-withdrawal guard"),
    Banned(r"climb(s|ed|ing)?", "take the slow path"),
    Banned(r"(an?|no|the|its|every|without an) exits?(?! (code|status))|exit links?", "egress"),
    Banned(
        r"host route|(?<!the )host routes",
        "announced route",
        {
            "docs/architecture.md": "the glossary: a route to a single address",
        },
    ),
    Banned(
        r"journal(s|ed|ing)?",
        "capture",
        {
            "docs/services.md": SYSTEMD,
            "plugins/module_utils/_ynl_mirror/daemon/": SYSTEMD,
            "plugins/module_utils/_ynl_mirror/install/managers.py": SYSTEMD,
            "plugins/plugin_utils/_ynl_mirror/qemu/guest.py": SYSTEMD,
            "tests/integration/test_logs.py": SYSTEMD,
            "tests/integration/test_systemd.py": SYSTEMD,
            "tests/lab/test_qemu.py": SYSTEMD,
            "tests/support/labs/systemd.py": SYSTEMD,
        },
    ),
    Banned(r"unmapped", "on the slow path, not mirrored"),
    Banned(r"refused unseen", "ignored, over the route limit"),
    Banned(r"second dump", "replay that confirms the withdrawals"),
    Banned(r"slow audit", "audit (wire audit, replica audit, FIB audit)"),
    Banned(r"winners?", "best path"),
    Banned(r"ways? out", "egress (of a packet), fix (of an error)"),
    # -- native English
    Banned(r"a word in the log", "logs it"),
    Banned(r"an?other way than", "with another next hop than"),
    Banned(r"anew", "again"),
    Banned(r"asks? nobody", "has no authentication"),
    Banned(r"give gateway", "no next hop: set gateway"),
    Banned(r"given up", "aborted"),
    Banned(r"heed(s|ed|ing)?", "apply, follow, process"),
    Banned(r"(is|are|was|were|be|been|being|gets?) told(?! (apart|from|to))", "is reported, is logged"),
    Banned(r"look at the lab s note", "read the lab's state"),
    Banned(r"leaves? unsaid", "does not report"),
    Banned(r"puts? right", "corrects, repairs"),
    Banned(r"seen to", "handled"),
    Banned(r"sum it up", "print a summary"),
    Banned(r"tells? what|told what|telling what", "report, print, show"),
    Banned(r"t(ell|ells|old|elling) of", "report, mention"),
    Banned(r"tells? (it |that )?anew", "announce again"),
    Banned(r"the own", "its own"),
    Banned(r"the rest of them|all of a sudden", "the others"),
    Banned(r"what is there", "what exists, what the table has"),
    Banned(r"whereupon", "then"),
    Banned(r"whoever", "anyone who, the peer that"),
    Banned(r"without a word", "silently"),
)


class Hit(NamedTuple):
    """Where a banned word stands."""

    path: str
    line: int
    found: str


def words_of(text: str) -> Iterator[tuple[int, str]]:
    """The words of a text, lower-case, each with its line, and a dot wherever a phrase ends.

    Names fall apart into words: is_told is two. A phrase may be broken over lines of prose, comments and strings.
    """
    line, end = 1, 0
    for match in re.finditer(r"[^\W_]+", text):
        gap = text[end : match.start()]
        line += gap.count("\n")
        if not WITHIN_A_PHRASE.fullmatch(gap):
            yield line, "."
        yield line, match.group().lower()
        end = match.end()


@cache
def texts() -> dict[str, tuple[str, list[tuple[int, int]]]]:
    """Every text of the project as words with one space between, and where each of its lines begins in that."""
    found = {}
    for path in checkout_files():
        if LEFT_OUT.fullmatch(str(path)) or (CHECKOUT / path).is_symlink():
            continue
        try:
            text = (CHECKOUT / path).read_text()
        except UnicodeDecodeError:
            continue
        parts, starts, at = [], [], 0
        for line, word in words_of(f"{path}\n.{text}"):
            starts.append((at, line - 1))  # line 0 is the file's name
            parts.append(word)
            at += len(word) + 1
        found[str(path)] = " ".join(parts), starts
    return found


def hits(banned: Banned) -> Iterator[Hit]:
    pattern = re.compile(rf"\b(?:{banned.pattern})\b")
    for path, (words, starts) in texts().items():
        for match in pattern.finditer(words):
            line = max(line for at, line in starts if at <= match.start())
            yield Hit(path, line, match.group())


def is_allowed(banned: Banned, path: str) -> bool:
    return any(path.startswith(beginning) for beginning in banned.allowed)


@pytest.mark.parametrize("banned", BANNED, ids=lambda banned: banned.pattern)
def test_no_text_uses(banned: Banned) -> None:
    found = [hit for hit in hits(banned) if not is_allowed(banned, hit.path)]
    assert found == [], f"say: {banned.instead}\n" + "\n".join(f"{path}:{line}: {word}" for path, line, word in found)


@pytest.mark.parametrize("banned", [banned for banned in BANNED if banned.allowed], ids=lambda banned: banned.pattern)
def test_every_exception_is_needed(banned: Banned) -> None:
    used = {beginning for hit in hits(banned) for beginning in banned.allowed if hit.path.startswith(beginning)}
    assert used == set(banned.allowed)


def test_phrases_are_found_across_lines_comments_and_names() -> None:
    words = " ".join(word for _line, word in words_of("# It has no way\n# out.\ndef test_it_is_told() -> None:"))
    assert "way out" in words
    assert "is told" in words
