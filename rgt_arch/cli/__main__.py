"""`python -m rgt_arch.cli`: `train`, `test`, `options` run `basicsr`, others `rgt` (torchrun needs a module)."""

import sys

from rgt_arch.cli import basicsr_command, main

# Spawned data workers import this file again, under another name, and must not start a second run.
if __name__ == "__main__":
    command = basicsr_command.command_first(sys.argv[1:])[:1]
    sys.exit(basicsr_command.main() if command in (["train"], ["test"], ["options"]) else main())
