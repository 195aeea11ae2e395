"""Stable Audio 3 over the unmodified ``stable-audio-3`` package; only ``plan`` needs no extra."""
