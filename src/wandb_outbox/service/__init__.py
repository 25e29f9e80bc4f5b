"""The service: everything wired together, and the only endless loop."""
