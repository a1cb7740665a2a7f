"""Seconds and gigabytes of a training step by engine, dtype and checkpointing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from common import Result, positive, run_script
from measuring import add_busy_flag, beside_busy_processes, measure
from networks import make_network_parser, network_cases


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = make_network_parser(
        "Measure training steps (forward, L1, backward, Adam): times in turns in one process, peak memory above the "
        "loaded network in fresh processes, ours with and without use_chk. Outputs and gradients are compared first.",
        sizes="64x64",
        rounds=3,
    )
    parser.add_argument("--batch", metavar="N", type=positive, default=1, help="patches in a step (%(default)s)")
    add_busy_flag(parser)
    return run_script(parser, train, argv)


def train(args: argparse.Namespace) -> Result:
    """Return a row for each size, dtype and engine, with and without checkpointing."""
    name, sizes = network_cases(args)
    steps = [
        [
            replace(case, batch=args.batch, train=True, config={**case.config, "use_chk": use_chk, "drop_path_rate": 0})
            for case in cases
            for use_chk in ((False, True) if case.engine == "ours" else (False,))
        ]
        for cases in sizes
    ]
    with beside_busy_processes(args.busy) as beside:
        rows = measure(steps, args.rounds, apart=True, in_turns=True)
    heading = (
        f"{name}, training steps on {args.batch} patches, medians of {args.rounds} in turns{beside}, peak memory above "
        "the network; ratios to the first row of a size"
    )
    return heading, {"rows": rows}


if __name__ == "__main__":
    raise SystemExit(main())
