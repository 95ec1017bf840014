"""The SimPy side of the simulation: the clock, random streams, and the loop that drives a data plane."""
