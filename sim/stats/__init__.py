"""Statistics of simulation output; knows nothing of what is simulated (numpy only, scipy nowhere on the way of a run).

warmup      MSER-5: where the start-up ends
intervals   Student-t intervals over replications, coverage
quantiles   quantiles of samples and of histograms, and their intervals from replications
pairs       paired differences under common random numbers, Holm's correction
stopping    how many replications a wanted precision takes
selection   the best of several systems, or those good enough, with few replications: KN, feasibility, screening, OCBA
"""

from sim.stats.intervals import Interval, coverage, standard_errors, t_cdf, t_interval, t_quantile, wilson
from sim.stats.pairs import PairedDifference, holm, paired
from sim.stats.quantiles import histogram_quantiles, quantile_interval, quantiles
from sim.stats.selection import Feasibility, KimNelson, ocba, screen
from sim.stats.stopping import precise, replications_to_clear, replications_wanted
from sim.stats.warmup import Truncation, mser5

__all__ = [
    "Feasibility",
    "Interval",
    "KimNelson",
    "PairedDifference",
    "Truncation",
    "coverage",
    "histogram_quantiles",
    "holm",
    "mser5",
    "ocba",
    "paired",
    "precise",
    "quantile_interval",
    "quantiles",
    "replications_to_clear",
    "replications_wanted",
    "screen",
    "standard_errors",
    "t_cdf",
    "t_interval",
    "t_quantile",
    "wilson",
]
