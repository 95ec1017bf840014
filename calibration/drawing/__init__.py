"""Pictures of profiles and of how they hold against measurements. matplotlib is imported by these modules: import them late."""
