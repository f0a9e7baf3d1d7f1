"""Metrics with intervals: discrimination, calibration error, jackknife, Clopper-Pearson."""
