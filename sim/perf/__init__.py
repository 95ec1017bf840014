"""Step times compiled from profiles."""
