# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading of JSON objects, one checked field at a time.

Every error is a ConfigError that names the item by its path (`agents[0].port`), the value found and the fix.
Pure: no file, no socket, no clock.
"""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Callable, TypeVar, Union

from ..model.routes import FAMILIES, Address, Prefix

IPAddress = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
T = TypeVar("T")


class ConfigError(ValueError):
    """A configuration that cannot be used; the text names the item and the fix."""


def join(path: str, key: str) -> str:
    """The path of the field KEY of the object at PATH ("" is the whole document)."""
    return f"{path}.{key}" if path else key


def suggestion(word: str, known: Sequence[str]) -> str:
    """The end of an error about an unknown WORD: the nearest known one, else all of them."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else "known here: " + ", ".join(sorted(known))


class Fields:
    """One JSON object at PATH; each method takes one field out of it, and `done` refuses what is left."""

    def __init__(self, data: object, path: str = "") -> None:
        if not isinstance(data, Mapping):
            raise ConfigError(f"{path or 'the configuration'}: expected an object with named fields, got {show(data)}")
        self._data: dict[str, Any] = {str(key): value for key, value in data.items()}
        self._path = path
        self._known: list[str] = []

    def path(self, key: str) -> str:
        """The full path of one field of this object, for an error."""
        return join(self._path, key)

    def has(self, key: str) -> bool:
        """Whether the field is there and not null."""
        return self._data.get(key) is not None

    def take(self, key: str, default: Any = None) -> Any:
        """The raw value of one field; DEFAULT if it is null or absent."""
        self._known.append(key)
        value = self._data.get(key)
        return default if value is None else value

    def required(self, key: str) -> Any:
        """The raw value of a field that must be there."""
        value = self.take(key)
        if value is None:
            near = difflib.get_close_matches(key, [name for name in self._data if name not in self._known], n=1)
            raise ConfigError(
                f"{self.path(key)}: missing; {f'did you misspell it as {near[0]!r}?' if near else 'add it'}"
            )
        return value

    def done(self) -> None:
        """Refuse fields that no method has taken."""
        for key in self._data:
            if key not in self._known:
                raise ConfigError(f"{self.path(key)}: unknown field; {suggestion(key, self._known)}")

    def integer(self, key: str, default: int | None, low: int, high: int) -> int:
        """A whole number in LOW..HIGH; required when there is no DEFAULT."""
        return as_integer(self.required(key) if default is None else self.take(key, default), self.path(key), low, high)

    def many(self, key: str, read: Callable[[object, str], T], default: Sequence[object] = ()) -> tuple[T, ...]:
        """A list, each item through READ(item, path); an item that is listed twice is an error."""
        return as_list(self.take(key, list(default)), self.path(key), read)


def show(value: object) -> str:
    """A value as an error shows it, bounded in length."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def as_text(value: object, path: str) -> str:
    """A non-empty string."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{path}: expected a non-empty string, got {show(value)}")
    return value


def as_file(value: object, path: str) -> str:
    """An absolute file path."""
    text = as_text(value, path)
    if not text.startswith("/"):
        raise ConfigError(f"{path}: {text!r} is a relative path; write it from the root (/...)")
    return text


def as_flag(value: object, path: str) -> bool:
    """True or false; nothing else counts as one."""
    if not isinstance(value, bool):
        raise ConfigError(f"{path}: expected true or false, got {show(value)}")
    return value


def as_integer(value: object, path: str, low: int, high: int) -> int:
    """A whole number in LOW..HIGH; a text of digits does not count."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{path}: expected a whole number from {low} to {high}, got {show(value)}")
    return value


def as_number(value: object, path: str, low: float, high: float) -> float:
    """A number in LOW..HIGH."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(f"{path}: expected a number from {low:g} to {high:g}, got {show(value)}")
    return float(value)


def as_choice(value: object, path: str, known: Sequence[str]) -> str:
    """One of the KNOWN words."""
    if not isinstance(value, str) or value not in known:
        hint = suggestion(value, known) if isinstance(value, str) else "known here: " + ", ".join(known)
        raise ConfigError(f"{path}: unknown value {show(value)}; {hint}")
    return value


def as_list(value: object, path: str, read: Callable[[object, str], T]) -> tuple[T, ...]:
    """A list, each item through READ(item, path); an item that is listed twice is an error."""
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{path}: expected a list, got {show(value)}; write [{show(value)}] for one item")
    items: list[T] = []
    for index, item in enumerate(value):
        made = read(item, f"{path}[{index}]")
        if made in items:
            raise ConfigError(f"{path}[{index}]: {show(item)} is listed twice; remove one")
        items.append(made)
    return tuple(items)


def as_names(value: object, path: str, read: Callable[[object, str], T]) -> dict[str, T]:
    """An object whose field names are the user's own (VRF names), each value through READ(value, path)."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path}: expected an object of names, got {show(value)}")
    return {as_text(name, path): read(item, join(path, str(name))) for name, item in value.items()}


def as_link(value: object, path: str) -> str:
    """A link name as the kernel takes it: 1..15 bytes, no slash, no blank."""
    name = as_text(value, path)
    if len(name.encode()) > 15 or "/" in name or any(char.isspace() for char in name) or name in (".", ".."):
        raise ConfigError(f"{path}: {name!r} is not a link name; it has to be 1 to 15 bytes without '/' or blanks")
    return name


def as_address(value: object, path: str) -> Address:
    """An IPv4 or IPv6 address of a route."""
    text = as_text(value, path)
    try:
        return Address.parse(text)
    except ValueError as error:
        hint = "" if "%" in text else "; write one such as 192.0.2.1 or 2001:db8::1"
        raise ConfigError(f"{path}: {error}{hint}") from None


def as_local_address(value: object, path: str) -> IPAddress:
    """An address of this machine for a socket; a link-local one may name its link (fe80::1%eth0)."""
    text = as_text(value, path)
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(f"{path}: {text!r} is not an IP address; write one such as 192.0.2.1 or ::") from None


def as_prefix(value: object, path: str) -> Prefix:
    """A prefix in CIDR form without host bits; an address stands for itself."""
    text = as_text(value, path)
    if "%" in text:
        raise ConfigError(f"{path}: {text!r} names a link; write the prefix alone, such as fe80::/64")
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        raise ConfigError(
            f"{path}: {text!r} is not a prefix; write one such as 192.0.2.0/24 or 2001:db8::/32"
        ) from None
    network = interface.network
    if int(interface.ip) != int(network.network_address):
        raise ConfigError(f"{path}: {text!r} has host bits set; write {str(network)!r}")
    return Prefix(FAMILIES[f"ipv{network.version}"], int(network.network_address), network.prefixlen)
