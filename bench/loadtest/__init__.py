"""The load test: arrivals, mixes, a cheap client, what it recorded, and the scenarios."""
