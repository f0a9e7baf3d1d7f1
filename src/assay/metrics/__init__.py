"""Metrics with intervals: discrimination, calibration error, bootstrap, bounds over scenes."""
