"""Stable Audio 3 over the unmodified ``stable-audio-3`` package; ``geometry`` runs without it."""
