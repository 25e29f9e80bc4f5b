"""The demo: made-up experiments written in real time, and the story of how they reach a loopback W&B server."""
