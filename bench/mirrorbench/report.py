# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's results as a table for people and as JSON for machines."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Values = dict[str, float]
#: Peer -> one mapping of values for each round.
Results = dict[str, list[Values]]

REFERENCE = "bird"


@dataclass(frozen=True)
class Row:
    """One line of the table: which value, what it is called, its decimals, and whether a ratio makes sense."""

    key: str
    label: str
    decimals: int
    ratio: bool = True


ROWS = (
    Row("cold_seconds", "cold sync, s", 2),
    Row("cold_cpu", "  CPU, s", 2),
    Row("cold_peak_mib", "  peak memory, MiB", 0),
    Row("cold_lost", "  routes lost", 0, ratio=False),
    Row("cold_wrong", "  routes wrong", 0, ratio=False),
    Row("cold_extra", "  routes not asked for", 0, ratio=False),
    Row("burst_seconds", "burst, s", 2),
    Row("burst_write_seconds", "  of which the writer, s", 2, ratio=False),
    Row("burst_cpu", "  CPU, s", 2),
    Row("burst_peak_mib", "  peak memory, MiB", 0),
    Row("burst_lost", "  routes lost", 0, ratio=False),
    Row("burst_wrong", "  routes wrong", 0, ratio=False),
    Row("burst_extra", "  routes not asked for", 0, ratio=False),
    Row("empty_add_p50_ms", "single add, empty, p50 ms", 3),
    Row("empty_add_p99_ms", "  p99 ms", 3),
    Row("empty_delete_p50_ms", "single delete, empty, p50 ms", 3),
    Row("empty_delete_p99_ms", "  p99 ms", 3),
    Row("loaded_add_p50_ms", "single add, loaded, p50 ms", 3),
    Row("loaded_add_p99_ms", "  p99 ms", 3),
    Row("loaded_delete_p50_ms", "single delete, loaded, p50 ms", 3),
    Row("loaded_delete_p99_ms", "  p99 ms", 3),
    Row("missing", "single changes never seen", 0, ratio=False),
    Row("foreign_cpu", "others' CPU meanwhile, s", 1, ratio=False),
)


def summarise(rounds: list[Values]) -> Values:
    """Return one peer's values over all rounds: medians, and for faults the worst round."""
    summary: Values = {}
    for key in sorted({key for values in rounds for key in values}):
        found = [values[key] for values in rounds if key in values]
        fault = key.endswith(("_lost", "_wrong", "_extra", "_missing"))
        summary[key] = max(found) if fault else statistics.median(found)
    for total in ("missing", "foreign_cpu"):
        parts = [value for key, value in summary.items() if key.endswith(f"_{total}")]
        if parts:
            summary[total] = sum(parts)
    return summary


def table(results: Results) -> str:
    """Return the summary: a column per peer, then each peer's ratio to BIRD where BIRD took part in the run."""
    summaries = {peer: summarise(rounds) for peer, rounds in results.items()}
    others = [peer for peer in summaries if peer != REFERENCE] if REFERENCE in summaries else []
    lines = [["", *summaries, *(f"{peer}/{REFERENCE}" for peer in others)]]
    for row in ROWS:
        if not any(row.key in values for values in summaries.values()):
            continue
        cells = [_number(values.get(row.key), row.decimals) for values in summaries.values()]
        ratios = [_ratio(row, summaries[peer], summaries[REFERENCE]) for peer in others]
        lines.append([row.label, *cells, *ratios])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_line(cells, widths) for cells in lines)


def _line(cells: list[str], widths: list[int]) -> str:
    first, *rest = (
        cell.ljust(width) if at == 0 else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *rest]).rstrip()


def _number(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:,.{decimals}f}"


def _ratio(row: Row, values: Values, reference: Values) -> str:
    """Return value / reference; a time of a peer that lost routes is no time at all, and gets no ratio."""
    value, base = values.get(row.key), reference.get(row.key)
    lost = values.get(f"{row.key.split('_')[0]}_lost", 0)
    if not row.ratio or value is None or not base or lost:
        return "" if not row.ratio else "-"
    return f"{value / base:.2f}"


def machine() -> dict[str, Any]:
    """Return what the numbers depend on: processor, memory, kernel, Python, and how busy the machine was."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0].split(":", 1)[1].strip() if models else platform.machine(),
        "processors": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def machine_line(facts: dict[str, Any]) -> str:
    """Return the machine in one line."""
    return (
        f"{facts['processors']} x {facts['processor']}, {facts['memory_gib']} GiB, Linux {facts['kernel']}, "
        f"Python {facts['python']}, load at start {facts['load_at_start']}"
    )
