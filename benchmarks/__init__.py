"""What wandb-outbox costs and how fast it is, each figure beside its baseline in the same run: ``python -m benchmarks``."""
