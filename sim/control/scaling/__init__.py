"""Autoscalers: how many replicas a deployment should have, and what they may look at to know."""
