"""Machines, and what runs on them: placement, cold starts, caches, and what a replica goes through from wanted to gone."""
