# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: role_options
short_description: The options of a daemon, as the variables of its role set them
description:
  - Collects the variables of the role P(ekho.ynl_mirror.dpu_agent#role) or P(ekho.ynl_mirror.mirror_listener#role)
    that are options of its module, and returns them by the module's names.
  - A variable that is undefined, null or an empty string leaves its option out, so the module's default applies.
  - The option C(tls) is left out where C(plaintext) is true.
version_added: "0.1.0"
author: ynl-mirror contributors (@ekho)
options:
  _terms:
    description: Name of the role, V(dpu_agent) or V(mirror_listener).
    type: list
    elements: str
    required: true
  service:
    description:
      - Whether to return the options of the service too, such as C(lib_dir).
      - Without them the result is what M(ekho.ynl_mirror.mirror_preflight_info) takes. An optional revocation list is
        left out of it, since the role P(ekho.ynl_mirror.mirror_certificates#role) may still create or update the list.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Run the agent as the variables dpu_agent_* say
  ekho.ynl_mirror.dpu_agent:
    state: started
  module_defaults:
    ekho.ynl_mirror.dpu_agent: "{{ lookup('ekho.ynl_mirror.role_options', 'dpu_agent') }}"
"""

RETURN = r"""
_raw:
  description: A dictionary of options for each role.
  type: list
  elements: dict
"""

from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.config.options import argument_spec
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.install.options import AGENT, LISTENER

DAEMONS = {"dpu_agent": AGENT, "mirror_listener": LISTENER}


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        """The options of each role in TERMS."""
        self.set_options(var_options=variables, direct=kwargs)
        for role in terms:
            if role not in DAEMONS:
                raise AnsibleError(f"role_options: {role!r} runs no daemon; give dpu_agent or mirror_listener")
        return [self._collected(role, variables or {}) for role in terms]

    def _collected(self, role: str, variables: dict[str, Any]) -> dict[str, Any]:
        daemon, service = DAEMONS[role], self.get_option("service")
        names = [*argument_spec(daemon.config), *(argument_spec(daemon.service) if service else ())]
        found = {name: self._variable(f"{role}_{name}", variables) for name in names}
        given = {name: value for name, value in found.items() if value not in (None, "")}
        if boolean(given.get("plaintext", False)):
            given.pop("tls", None)
        elif not service and "crl_optional" in given.get("tls", ()):
            given["tls"] = {name: file for name, file in given["tls"].items() if name not in ("crl", "crl_optional")}
        return given

    def _variable(self, name: str, variables: dict[str, Any]) -> Any:
        """A variable's value, templated; None if it is undefined."""
        if name not in variables:
            return None
        builtin = lookup_loader.get("ansible.builtin.vars", loader=self._loader, templar=self._templar)
        return builtin.run([name], variables=variables)[0]
