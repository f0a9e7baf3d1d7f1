"""Metrics with intervals: discrimination, calibration error, jackknife, bounds over scenes."""
