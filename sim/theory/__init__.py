"""Closed-form queues: what the simulator must agree with where theory has an answer. Knows nothing of it; no imports but math.

Times in any one unit, rates per that unit. ``rate`` is the arrival rate, ``service`` the mean service time.
"""

from sim.theory.queues import MD1, MG1, MM1, MMc, erlang_b, erlang_c, little

__all__ = ["MD1", "MG1", "MM1", "MMc", "erlang_b", "erlang_c", "little"]
