from rgt_arch.cli import main
import sys

sys.exit(main())
