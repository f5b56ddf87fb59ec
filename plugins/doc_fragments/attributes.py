# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the attributes of this collection's modules mean."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragments to extend: the attributes of any module, of those that only look, and of an action group's members."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Returns details on what has changed, or would change in C(check_mode), when in diff mode.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled or queried by the module has not changed in a relevant way.
  platform:
    description: Target operating system that can be operated against.
"""

    # For modules that only look.
    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details: [This module does not modify state.]
  diff_mode:
    description: Returns details on what has changed, or would change in C(check_mode), when in diff mode.
    support: N/A
    details: [This module does not modify state.]
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled or queried by the module has not changed in a relevant way.
    support: full
  platform:
    description: Target operating system that can be operated against.
    support: full
    platforms: Linux
"""

    # One for each group in meta/runtime.yml; a module extends it beside the fragment with its other attributes.
    ACTIONGROUP_DAEMONS = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/ekho.ynl_mirror.daemons) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - ekho.ynl_mirror.daemons
"""

    ACTIONGROUP_LAB = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/ekho.ynl_mirror.lab) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - ekho.ynl_mirror.lab
"""
