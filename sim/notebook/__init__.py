"""Scenarios in Jupyter: what-if with sliders."""
