"""``python -m wandb_outbox``."""

import sys

from wandb_outbox.cli import main

sys.exit(main())
