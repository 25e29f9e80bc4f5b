"""How property tests run here: a busy machine is no reason to fail."""

from hypothesis import HealthCheck, settings

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For every property test of a module that touches nothing slow itself."""
