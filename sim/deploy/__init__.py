"""Scenarios as files one can deploy: engine flags and Kubernetes manifests."""
