"""wandb-outbox: finished experiment folders go in, verified Weights & Biases runs come out."""

__version__ = "0.1.0"
