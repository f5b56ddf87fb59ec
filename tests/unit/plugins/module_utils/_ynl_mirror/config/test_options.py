# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Option tables: what follows from one line for each option."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.agent import AgentConfig
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.fields import ConfigError
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.listener import ListenerConfig
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.names import Names
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.options import (
    FILE,
    FLAG,
    TABLE,
    TEXT,
    Table,
    argument_spec,
    choice,
    integer,
    many,
    named,
    number,
    option,
    optional,
    options,
    record,
    reloadable,
    required,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.install.options import ServiceOptions

DOCS = Path(__file__).parents[6] / "docs"


@dataclass(frozen=True)
class Place(Table):
    name: str = required(TEXT, "Its name.")
    port: int = option(integer(1, 9), 5, "Its port.")
    hidden: bool = option(FLAG, False, "In the file alone.", in_modules=False)

    def check(self, path: str) -> None:
        if self.port == 9 and self.hidden:
            raise ConfigError(f"{path}: port 9 is not hidden")


@dataclass(frozen=True)
class Example(Table):
    places: tuple[Place, ...] = option(many(record(Place)), (), "Places.", reloadable=True)
    tables: tuple[int, ...] = option(many(TABLE, "list one"), (254,), "Tables.")
    share: float = option(number(0, 1), 0.5, "A share.")
    word: str = option(choice(("one", "two")), "one", "A word.", reloadable=True)
    file: str | None = option(optional(FILE), None, "A file.")
    by_name: Mapping[str, int] = option(named(integer(0, 3)), {}, "Numbers.")
    home: Place = option(record(Place, without=("port",)), Place("here"), "Home.")  # noqa: RUF009  # as in pyproject.toml


def test_what_is_left_out_or_null_has_its_default() -> None:
    assert Example.from_dict({}) == Example.from_dict({"share": None, "home": None, "by_name": None}) == Example()
    assert Example().home == Place("here", 5, False)


def test_values_are_typed_and_come_back_equal() -> None:
    data = {
        "places": [{"name": "x", "port": 2}, {"name": "y", "hidden": True}],
        "tables": ["blue", 7],
        "share": 1,
        "word": "two",
        "file": "/a",
        "by_name": {"a": 3},
        "home": {"name": "there"},
    }
    example = Example.from_dict(data, Names(tables={"blue": 100}))
    assert example.places == (Place("x", 2), Place("y", hidden=True))
    assert (example.tables, example.share, example.word, example.file) == ((100, 7), 1.0, "two", "/a")
    assert Example.from_dict(example.to_dict()) == example
    assert example.to_dict()["home"] == {"name": "there", "hidden": False}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"plases": []}, "plases: unknown field; did you mean 'places'?"),
        ({"places": [{"name": "x"}, {"port": 1}]}, "places[1].name: missing; add it"),
        ({"places": [{"nane": "x"}]}, "places[0].name: missing; did you misspell it as 'nane'?"),
        ({"places": [{"name": "x", "port": 10}]}, "places[0].port: expected a whole number from 1 to 9, got 10"),
        ({"places": [{"name": "x", "port": 9, "hidden": True}]}, "places[0]: port 9 is not hidden"),
        ({"tables": []}, "tables: empty; list one"),
        ({"by_name": {"a": 4}}, "by_name.a: expected a whole number from 0 to 3, got 4"),
        ({"home": {"name": "x", "port": 1}}, "home.port: unknown field; known here: hidden, name"),
        ({"home": []}, "home: expected an object with named fields, got []"),
    ],
)
def test_an_error_names_the_option_by_its_path(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Example.from_dict(data)
    assert str(caught.value) == message


def test_what_ansible_accepts_follows() -> None:
    place = {"name": {"type": "str", "required": True}, "port": {"type": "int", "default": 5}}
    assert argument_spec(Example) == {
        "places": {"type": "list", "elements": "dict", "options": place, "default": []},
        "tables": {"type": "list", "elements": "raw", "default": [254]},
        "share": {"type": "float", "default": 0.5},
        "word": {"type": "str", "choices": ["one", "two"], "default": "one"},
        "file": {"type": "path", "no_log": False},
        "by_name": {"type": "dict", "default": {}},
        "home": {"type": "dict", "options": {"name": place["name"]}},
    }
    assert list(argument_spec(Example, without=("places", "home"))) == ["tables", "share", "word", "file", "by_name"]


def test_an_argument_spec_may_be_changed_without_changing_the_table() -> None:
    argument_spec(Example)["places"]["options"]["name"]["required"] = False
    assert argument_spec(Example)["places"]["options"]["name"]["required"]


def test_what_a_running_daemon_takes_over_follows() -> None:
    assert reloadable(Example) == ("places", "word")


@pytest.mark.parametrize("table", [AgentConfig, ListenerConfig, ServiceOptions])
def test_every_option_of_a_daemon_says_what_it_is(table: type[Table]) -> None:
    assert len(options(table)) == len(fields(table))  # type: ignore[arg-type]
    assert [known.name for known in options(table) if not known.doc.endswith(".")] == []


@pytest.mark.parametrize(("table", "daemon"), [(AgentConfig, "agent"), (ListenerConfig, "listener")])
def test_the_documentation_of_a_reload_names_what_takes_effect(table: type[Table], daemon: str) -> None:
    section = (DOCS / "security.md").read_text().partition("## Reloading\n")[2].partition("\n## ")[0]
    sentence = section.partition(f"- on the {daemon}:")[2].partition("\n- ")[0].partition("\n\n")[0]
    assert [name for name in reloadable(table) if f"`{name}`" not in sentence] == []
    fixed = [known.name for known in options(table) if not known.reloadable]
    assert [name for name in fixed if f"`{name}`" in sentence] == []
