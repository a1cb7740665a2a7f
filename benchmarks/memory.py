"""Peak memory above the loaded network for one image, each in a fresh process."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from common import Result, run_script
from measuring import measure
from networks import make_network_parser, network_cases


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = make_network_parser(
        "Measure the peak memory above the loaded network for one image, each in a fresh process: the resident size on "
        "a CPU, torch's allocations on a GPU. Outputs are compared first. A run that needs too much is stopped.",
        sizes="128x128 256x256 512x512",
        dtypes=("fp32",),
        rounds=1,
    )
    return run_script(parser, memory, argv)


def memory(args: argparse.Namespace) -> Result:
    """Return a row for each size, dtype and engine."""
    name, sizes = network_cases(args)
    rows = measure(sizes, args.rounds, apart=True, in_turns=False)
    return f"{name}, peak memory above the loaded network, each in a fresh process", {"rows": rows}


if __name__ == "__main__":
    raise SystemExit(main())
