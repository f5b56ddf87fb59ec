# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible wants as literal YAML, held to the option tables: documentation of modules, interfaces of roles."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.ekho.ynl_mirror.plugins.doc_fragments.service import ModuleDocFragment
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.common import DaemonConfig
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.options import Option, Table, options
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.install.options import (
    AGENT,
    LISTENER,
    Daemon,
    ServiceOptions,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.install.service_module import argument_spec
from ansible_collections.ekho.ynl_mirror.plugins.modules import dpu_agent, netlink_route_watch

pytestmark = pytest.mark.controller

ROOT = Path(__file__).parents[4]
#: How often the name of an option may stand: in its table, in the documentation of the module, in that of the role.
PLACES = 3
DAEMONS: dict[str, Daemon] = {"dpu_agent": AGENT, "mirror_listener": LISTENER}
MODULES: dict[str, Any] = {"dpu_agent": dpu_agent, "mirror_listener": netlink_route_watch}
#: Options of the roles that are none of the modules.
ROLES_OWN = {"state", "certificates_dir", "python_packages_from", "wheels_dir"}
#: Options of the modules that the roles set by themselves.
MODULES_OWN = {"interpreter"}
Spec = Mapping[str, Mapping[str, Any]]


def loaded(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def documentation(role: str) -> dict[str, Any]:
    """The options in the module's documentation, those of the fragment included."""
    shared = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    own = yaml.safe_load(MODULES[role].DOCUMENTATION)["options"]
    assert not shared.keys() & own.keys()
    return {**shared, **own}


def role_spec(role: str) -> dict[str, Any]:
    """The options of a role, without its prefix."""
    specs = loaded(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    return {name.removeprefix(role + "_"): spec for name, spec in specs.items()}


def role_defaults(role: str) -> dict[str, Any]:
    return {name.removeprefix(role + "_"): value for name, value in loaded(f"roles/{role}/defaults/main.yml").items()}


def known(role: str) -> dict[str, Option]:
    """The options of a role's module, by name."""
    every = (*options(DAEMONS[role].config), *options(DAEMONS[role].service))
    return {option.name: option for option in every if option.in_modules}


def paragraphs(entry: Mapping[str, Any]) -> list[str]:
    text = entry["description"]
    return [text] if isinstance(text, str) else list(text)


def same(argument: Any, written: Any) -> bool:
    """Whether two values are equal, and of one type."""
    return bool(argument == written and type(argument) is type(written))


def differences(path: str, arguments: Spec, written: Spec, suboptions: str) -> Iterator[str]:
    """Where YAML says another thing than an argument_spec; SUBOPTIONS is the YAML's word for them."""
    for name in arguments.keys() ^ written.keys():
        yield f"{path}{name} is missing in {'the YAML' if name in arguments else 'the table'}"
    for name in arguments.keys() & written.keys():
        argument, entry = arguments[name], written[name]
        for key in ("type", "elements", "choices", "default", "required"):
            if not same(argument.get(key), entry.get(key)):
                yield f"{path}{name}: {key} is {entry.get(key)!r}, and in the table {argument.get(key)!r}"
        if not "".join(paragraphs(entry)).strip():
            yield f"{path}{name} has no description"
        if suboptions in entry or suboptions == "suboptions":
            yield from differences(f"{path}{name}.", argument.get("options", {}), entry.get(suboptions, {}), suboptions)


@pytest.mark.parametrize("role", DAEMONS)
def test_the_documentation_of_a_module_is_that_of_its_table(role: str) -> None:
    arguments = argument_spec(DAEMONS[role])
    written = {name: entry for name, entry in documentation(role).items() if name in {**arguments, **known(role)}}
    arguments.pop("state")
    written.pop("state")
    assert list(differences("", arguments, written, "suboptions")) == []


@pytest.mark.parametrize("role", DAEMONS)
def test_the_options_of_a_role_are_those_of_its_table(role: str) -> None:
    defaults = role_defaults(role)
    arguments = argument_spec(DAEMONS[role])
    for name in defaults.keys() & arguments.keys():
        arguments[name].pop("default", None)
        if "{{" not in str(defaults[name]):  # the role decides
            arguments[name]["default"] = defaults[name]
    written = role_spec(role)
    assert ROLES_OWN - written.keys() == set()
    differing = differences(
        f"{role}_",
        {name: argument for name, argument in arguments.items() if name not in {"state", *MODULES_OWN}},
        {name: entry for name, entry in written.items() if name not in ROLES_OWN},
        "options",
    )
    assert list(differing) == []


@pytest.mark.parametrize("role", DAEMONS)
def test_a_role_says_where_suboptions_are_documented(role: str) -> None:
    module = MODULES[role].__name__.rpartition(".")[2]
    arguments = argument_spec(DAEMONS[role])
    silent = [
        name
        for name, entry in role_spec(role).items()
        if "options" in arguments.get(name, {}) and "options" not in entry
        if f"see M(ekho.ynl_mirror.{module})" not in " ".join(paragraphs(entry))
    ]
    assert silent == []


def described(path: str, table: type[Table], entries: Mapping[str, Any], word: str) -> Iterator[tuple[str, str, str]]:
    """Path of an option, its line in the table, and the first paragraph in YAML; suboptions too."""
    for option in options(table):
        entry = entries.get(option.name)
        if entry is None:
            continue
        yield f"{path}{option.name}", option.doc, paragraphs(entry)[0].strip()
        nested = option.kind.table
        if nested is not None and word in entry:
            yield from described(f"{path}{option.name}.", nested, entry[word], word)


@pytest.mark.parametrize("role", DAEMONS)
@pytest.mark.parametrize("word", ["suboptions", "options"])
def test_the_first_paragraph_on_an_option_is_the_line_of_its_table(role: str, word: str) -> None:
    entries = documentation(role) if word == "suboptions" else role_spec(role)
    lines = [
        line for table in (DAEMONS[role].config, DAEMONS[role].service) for line in described("", table, entries, word)
    ]
    assert len(lines) >= len(known(role)) - len(MODULES_OWN)
    assert [(path, line, written) for path, line, written in lines if line != written] == []


def test_a_role_repeats_no_default_of_its_table() -> None:
    # What the role uses itself has to be defined.
    used = {"config_dir", "lib_dir"}
    repeated = [
        f"{role}_{name}"
        for role in DAEMONS
        for name, value in role_defaults(role).items()
        if name in known(role) and name not in used and known(role)[name].argument.get("default") == value
    ]
    assert repeated == []


# -- places


def names_in_python(path: Path, tables: set[str]) -> Iterator[str]:
    """The names of options that a file declares or lists.

    Fields of classes (those of option tables that are not among TABLES are other options), items of lists, keys of
    dictionaries that specify them or write them out, and what is passed by name to make a configuration.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
            if node.name in tables or not bases & {"Table", "DaemonConfig", "ServiceOptions"}:
                targets = [item.target for item in node.body if isinstance(item, ast.AnnAssign)]
                yield from (target.id for target in targets if isinstance(target, ast.Name))
        elif isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            yield from (str(item.value) for item in node.elts if isinstance(item, ast.Constant))
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values):
                if isinstance(key, ast.Constant) and (
                    isinstance(value, ast.Dict) or (isinstance(value, ast.Attribute) and value.attr == key.value)
                ):
                    yield str(key.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"cls", *tables}:
            yield from (keyword.arg for keyword in node.keywords if keyword.arg)


def names_in_tasks(role: str, module: str) -> Iterator[str]:
    """The options that tasks of a role pass on by name, to the module or to a preflight check."""
    for path in (ROOT / "roles" / role / "tasks").glob("*.yml"):
        for task in yaml.safe_load(path.read_text()):
            yield from task.get(f"ekho.ynl_mirror.{module}", {})
            for action, arguments in task.items():
                if "preflight" in action and isinstance(arguments, Mapping):
                    yield from (key for value in arguments.values() if isinstance(value, Mapping) for key in value)


@cache
def places(role: str) -> list[tuple[str, str]]:
    """The names of options that are written by hand, each with the place."""
    module = MODULES[role].__name__.rpartition(".")[2]
    rooms = ROOT / "plugins" / "module_utils" / "_ynl_mirror"
    code = [
        *(path for path in rooms.glob("config/*.py") if path.name != "names.py"),
        *rooms.glob("install/*.py"),
        *(rooms / "daemon" / "reload.py", rooms / "agent" / "settings.py"),
        *(ROOT / f"plugins/modules/{module}.py", ROOT / "plugins/lookup/role_options.py"),
    ]
    daemon = DAEMONS[role]
    tables = {table.__name__ for table in (daemon.config, DaemonConfig, daemon.service, ServiceOptions)}
    found = [(name, path.name) for path in code for name in names_in_python(path, tables)]
    found += [(name, "documentation of the module") for name in documentation(role)]
    found += [(name, "interface of the role") for name in {**role_spec(role), **role_defaults(role)}]
    found += [(name, "tasks of the role") for name in names_in_tasks(role, module)]
    if role == "dpu_agent":
        found.remove(("static", "agent.py"))  # an inference has this name, too
    return found


@pytest.mark.parametrize(("role", "name"), [(role, name) for role in DAEMONS for name in known(role)])
def test_an_option_is_written_in_three_places(role: str, name: str) -> None:
    found = [place for found, place in places(role) if found == name]
    assert 2 <= len(found) <= PLACES, found


def test_the_count_sees_every_way_to_write_a_name(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        "class A:\n    one: int = 1\nclass B(Table):\n    other: int = 2\nclass C(Table):\n    two: int\n"
        'LIVE = ("three", *["four"])\nSPEC = {"five": {"type": "int"}}\ndef to_dict(self): return {"six": self.six}\n'
        'made = cls(seven=fields.integer("x"))\nuse = config["eight"] + config.nine + call(ten=1)\n'
    )
    assert sorted(names_in_python(file, {"C"})) == sorted(["one", "two", "three", "four", "five", "six", "seven"])
