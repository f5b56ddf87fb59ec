# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Option tables: one line declares an option, and everything else about it follows. Pure.

    @dataclass(frozen=True)
    class ListenAddress(Table):
        address: str = required(LOCAL_ADDRESS, "Address of this machine.")
        port: int = option(integer(0, 65535), 2620, "TCP port.")

A table is a frozen dataclass, so its values have typed attributes. From its fields follow how it is read from JSON
(`from_dict`) and written (`to_dict`), what Ansible's modules accept (`argument_spec`), and what a running daemon takes
over at SIGHUP (`reloadable`). The documentation of modules and roles has to be literal YAML: it is tested against them.

A *kind* is the type of an option: its range, and how its value goes in and out.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Generic, TypeVar

from ..model.routes import ROUTE_TYPE_NAMES, ROUTE_TYPES
from .fields import (
    ConfigError,
    Fields,
    as_address,
    as_choice,
    as_file,
    as_flag,
    as_integer,
    as_link,
    as_list,
    as_local_address,
    as_names,
    as_number,
    as_prefix,
    as_text,
)
from .names import Names

T = TypeVar("T")
T_table = TypeVar("T_table", bound="Table")
_KEY = "option"


@dataclass(frozen=True)
class Kind(Generic[T]):
    """A type of option. *read* gets the JSON value and its path; *spec* is what Ansible calls the type.

    *table* has the options of the objects that it consists of.
    """

    spec: Mapping[str, Any]
    read: Callable[[object, str, Names], T]
    write: Callable[[T], Any]
    table: type[Table] | None = None


@dataclass(frozen=True)
class Option:
    """What a table says of one option; *default* is the value, not its JSON."""

    name: str
    kind: Kind[Any]
    default: Any
    doc: str
    required: bool = False
    reloadable: bool = False
    in_modules: bool = True

    @property
    def argument(self) -> dict[str, Any]:
        """Its entry in the argument_spec of a module."""
        argument = copy.deepcopy(dict(self.kind.spec))  # the caller may add to it
        if self.required:
            argument["required"] = True
        elif self.default is not None and not isinstance(self.default, Table):  # a table's options have their own
            argument["default"] = self.kind.write(self.default)
        return argument


class Table:
    """Base of the option tables."""

    @classmethod
    def from_dict(
        cls: type[T_table],
        data: object,
        names: Names | None = None,
        path: str = "",
        *,
        without: Collection[str] = (),
    ) -> T_table:
        """From a JSON object at PATH; ConfigError names the item and the fix. WITHOUT: options that are not known."""
        fields = Fields(data, path)
        made = cls(**given(cls, fields, names or Names(), without))
        fields.done()
        made.check(path)
        return made

    def check(self, path: str) -> None:
        """Refuse what no option can know by itself, such as two options that exclude each other."""

    def to_dict(self, *, without: Collection[str] = ()) -> dict[str, Any]:
        """The JSON object; `from_dict` of it gives an equal value."""
        known = [known for known in options(type(self)) if known.name not in without]
        return {known.name: known.kind.write(getattr(self, known.name)) for known in known}


def required(kind: Kind[T], doc: str) -> T:
    """Declare an option that has to be given."""
    # The field becomes one of a dataclass, in the table that calls this.
    made: T = field(  # pylint: disable=invalid-field-call
        metadata={_KEY: Option("", kind, None, doc, required=True)}
    )
    return made


def option(kind: Kind[T], default: T, doc: str, *, reloadable: bool = False, in_modules: bool = True) -> T:
    """Declare an option that may be left out.

    *reloadable*: a running daemon takes it over. *in_modules*: Ansible's modules have it too, not the JSON file alone.
    """
    known = Option("", kind, default, doc, reloadable=reloadable, in_modules=in_modules)
    made: T = field(default_factory=lambda: default, metadata={_KEY: known})  # pylint: disable=invalid-field-call
    return made


def options(table: type[Table]) -> tuple[Option, ...]:
    """The options of a table, in its order."""
    fields = dataclasses.fields(table)  # type: ignore[arg-type]  # every table is a dataclass
    return tuple(dataclasses.replace(each.metadata[_KEY], name=each.name) for each in fields)


def reloadable(table: type[Table]) -> tuple[str, ...]:
    """The names of the options that take effect while the daemon runs."""
    return tuple(known.name for known in options(table) if known.reloadable)


def argument_spec(table: type[Table], *, without: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    """What Ansible checks of the options."""
    return {known.name: known.argument for known in options(table) if known.in_modules and known.name not in without}


def given(table: type[Table], fields: Fields, names: Names, without: Collection[str] = ()) -> dict[str, Any]:
    """The values of the options that an object gives; those that it has to give and does not are an error."""
    values: dict[str, Any] = {}
    for known in options(table):
        if known.name not in without:
            value = fields.required(known.name) if known.required else fields.take(known.name)
            if value is not None:
                values[known.name] = known.kind.read(value, fields.path(known.name), names)
    return values


# -- kinds of one value


def _plain(type_: str, read: Callable[[object, str], T], write: Callable[[T], Any] = lambda value: value) -> Kind[T]:
    return Kind({"type": type_}, lambda value, path, _names: read(value, path), write)


TEXT = _plain("str", as_text)
FLAG = _plain("bool", as_flag)
LINK = _plain("str", as_link)
ADDRESS = _plain("str", as_address, str)
LOCAL_ADDRESS = _plain("str", lambda value, path: str(as_local_address(value, path)))
PREFIX = _plain("str", as_prefix, str)
#: An absolute path. The path of a key is no secret, whatever Ansible thinks of an option of that name.
FILE = Kind({"type": "path", "no_log": False}, lambda value, path, _names: as_file(value, path), str)
#: Routing tables and protocols, by number or by the machine's name for it.
TABLE = Kind({"type": "raw"}, lambda value, path, names: names.table(value, path), int)
PROTOCOL = Kind({"type": "raw"}, lambda value, path, names: names.protocol(value, path), int)
#: A route type, by its name; the value is its RTN_ number.
ROUTE_TYPE: Kind[int] = Kind(
    {"type": "str"},
    lambda value, path, _names: ROUTE_TYPES[as_choice(value, path, tuple(ROUTE_TYPES))],
    lambda number: ROUTE_TYPE_NAMES[number],
)


def integer(low: int, high: int) -> Kind[int]:
    """A whole number."""
    return _plain("int", lambda value, path: as_integer(value, path, low, high))


def number(low: float, high: float) -> Kind[float]:
    """A number."""
    return _plain("float", lambda value, path: as_number(value, path, low, high))


def choice(words: Sequence[str]) -> Kind[str]:
    """One of some words."""
    spec = {"type": "str", "choices": list(words)}
    return Kind(spec, lambda value, path, _names: as_choice(value, path, words), str)


def optional(kind: Kind[T]) -> Kind[T | None]:
    """Left out it is None."""
    return Kind(kind.spec, kind.read, lambda value: None if value is None else kind.write(value), kind.table)


# -- kinds of several values


def many(kind: Kind[T], at_least_one: str = "") -> Kind[tuple[T, ...]]:
    """A list without repetition. AT_LEAST_ONE is the fix for an empty one, where there has to be an item."""

    def read(value: object, path: str, names: Names) -> tuple[T, ...]:
        items = as_list(value, path, lambda item, at: kind.read(item, at, names))
        if at_least_one and not items:
            raise ConfigError(f"{path}: empty; {at_least_one}")
        return items

    def write(items: Iterable[T]) -> list[Any]:
        return [kind.write(item) for item in items]

    spec = {key: value for key, value in kind.spec.items() if key != "type"}
    return Kind({"type": "list", "elements": kind.spec["type"], **spec}, read, write, kind.table)


def named(kind: Kind[T]) -> Kind[Mapping[str, T]]:
    """Values by names that are the user's own, such as those of VRFs."""

    def read(value: object, path: str, names: Names) -> Mapping[str, T]:
        return as_names(value, path, lambda item, at: kind.read(item, at, names))

    def write(items: Mapping[str, T]) -> dict[str, Any]:
        return {name: kind.write(item) for name, item in items.items()}

    return Kind({"type": "dict"}, read, write)


def record(table: type[T_table], *, without: Collection[str] = ()) -> Kind[T_table]:
    """An object with the options of a table, WITHOUT some of them."""

    def read(value: object, path: str, names: Names) -> T_table:
        return table.from_dict(value, names, path, without=without)

    def write(made: T_table) -> dict[str, Any]:
        return made.to_dict(without=without)

    return Kind({"type": "dict", "options": argument_spec(table, without=without)}, read, write, table)
