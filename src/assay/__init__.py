"""Assay: one DVC pipeline that trains, calibrates, stacks and ships classifiers."""

__version__ = "0.1.0"
