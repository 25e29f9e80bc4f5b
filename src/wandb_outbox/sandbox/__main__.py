"""`python -m wandb_outbox.sandbox`."""

import sys

from wandb_outbox.sandbox.cli import main

sys.exit(main())
