"""Metrics with intervals: discrimination, calibration error, bootstrap, Clopper-Pearson."""
