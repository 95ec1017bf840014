"""GPUs and the nodes they stand in: what fits where."""
