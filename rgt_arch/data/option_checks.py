"""(stub until the data branch is merged)"""

from rgt_arch.config import validate_options as validate_options
