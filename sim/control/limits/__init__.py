"""Admission at the gateway: rate limits, concurrency limits, shedding, fair shares."""
