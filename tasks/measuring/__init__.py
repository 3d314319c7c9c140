"""Scores, intervals, timing, and the machine they were measured on: on NumPy arrays alone."""
