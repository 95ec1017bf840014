"""Calibration of an endpoint: what an OpenAI-compatible server does, seen from outside.

A :class:`~calibration.endpoint.client.Client` sends prompts and notes when each token comes; a plan of small controlled loads makes
cells of it; and from the times of the cells follow samples of single engine steps.
"""
