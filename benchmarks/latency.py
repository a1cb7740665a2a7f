"""Seconds for one image by engine and dtype."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from common import Result, run_script
from measuring import add_busy_flag, beside_busy_processes, measure
from networks import make_network_parser, network_cases

from rgt_arch.evaluation.complexity import count


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = make_network_parser(
        "Time the network on one image, all engines in turns in one process. Outputs are compared first: where they "
        "differ, nothing is measured. Other programs should not be running, except those of --busy.",
        sizes="128x128",
        rounds=3,
    )
    add_busy_flag(parser)
    return run_script(parser, latency, argv)


def latency(args: argparse.Namespace) -> Result:
    """Return a row for each size, dtype and engine."""
    name, sizes = network_cases(args)
    with beside_busy_processes(args.busy) as beside:
        rows = measure(sizes, args.rounds, apart=False, in_turns=True)
    flops = {str(cases[0].size): 2 * count(cases[0].config, cases[0].size).whole.products for cases in sizes}
    for row in rows:
        row["GFLOP/s"] = flops[row["size"]] / row["seconds"] / 1e9
    heading = f"{name}, medians of {args.rounds} runs in turns{beside}; ratios to the first row of a size"
    return heading, {"rows": rows}


if __name__ == "__main__":
    raise SystemExit(main())
