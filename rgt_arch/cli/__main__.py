"""`python -m rgt_arch.cli`: the commands of `basicsr`, and all others of `rgt` (torchrun needs a module)."""

import sys

from rgt_arch.cli import basicsr_command, main

# Spawned data workers import this file again, under another name, and must not start a second run.
if __name__ == "__main__":
    first, *_ = [*basicsr_command.command_first(sys.argv[1:]), ""]
    sys.exit(basicsr_command.main() if first in {command.name for command in basicsr_command.COMMANDS} else main())
