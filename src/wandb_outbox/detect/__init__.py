"""Detection: which folders there are, who writes to them, and when one is finished."""
