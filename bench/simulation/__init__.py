"""Replicas of a variant in simulated time, scaled by the code that scales them in production."""
