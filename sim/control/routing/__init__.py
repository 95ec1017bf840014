"""Routers of LLM gateways: what they know of each replica, and which they choose."""
