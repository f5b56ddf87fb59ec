# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter map_routes as templates see it; the mapping of facts is tested beside its library."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.controller

ITEM = {"dst": "10.0.0.0/8", "gateway": "192.0.2.1"}
DPU: dict[str, Any] = {"vrfs": [], "links": [], "addresses": [], "routes": []}


def call(routes: Any, dpu: Any, **options: Any) -> Any:
    # Ansible is on the controller only, so it is not imported with this file.
    from ansible_collections.ekho.ynl_mirror.plugins.filter.map_routes import FilterModule

    return FilterModule().filters()["map_routes"](routes, dpu, **options)


def test_the_filter_maps_with_its_options() -> None:
    mapped = call([ITEM], DPU, inference=["nexthop"])
    assert mapped["vrfs"] == {}
    [stays] = mapped["slow_path"]
    assert stays["route"]["dst"] == "10.0.0.0/8"
    assert "192.0.2.1 is not an address of the DPU" in stays["reason"]


@pytest.mark.parametrize(
    ("routes", "dpu", "options", "message"),
    [
        ([ITEM], DPU, {"infer": []}, "map_routes: unknown option 'infer'; choose from: inference"),
        ("x", DPU, {}, "map_routes: expected a list of routes, got str"),
        ([ITEM], {}, {}, "map_routes: no 'links' in the DPU's facts"),
        ([{"dst": "10.0.0.1/8"}], DPU, {}, "map_routes: announced routes[0] (10.0.0.1/8): host bits are set"),
        ([ITEM], DPU, {"inference": ["guess"]}, "map_routes: inference: unknown 'guess'"),
    ],
)
def test_an_error_names_the_filter_and_the_cause(routes: Any, dpu: Any, options: dict[str, Any], message: str) -> None:
    from ansible.errors import AnsibleFilterError

    with pytest.raises(AnsibleFilterError) as caught:
        call(routes, dpu, **options)
    assert message in str(caught.value)
