"""A variant's replicas in simulated time, scaled by the code that scales them in production."""
