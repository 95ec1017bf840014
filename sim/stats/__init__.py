"""Statistics of simulation output; knows nothing of what is simulated (numpy; scipy nowhere on the way of a run).

warmup        MSER-5: where the start-up ends
intervals     Student-t intervals over replications, shares, coverage
targets       one-sided bounds, and the chance that a target is met
quantiles     quantiles of samples and of histograms, and their intervals from replications
bootstrap     resampled replications: quantiles of all requests, ratios
batches       batch means: the interval of one long run
controls      control variates
antithetic    pairs on mirrored random numbers
pairs         paired differences under common random numbers
samples       differences of unpaired samples; equivalence
multiplicity  many tests at once
stopping      how many replications a wanted precision takes
selection     the best of several systems, or those good enough, with few replications: KN, feasibility, screening, OCBA

docs/statistics.md says which one is for what, and how often each is right.
"""

from sim.stats.antithetic import Antithetic, antithetic
from sim.stats.batches import BatchMeans, autocorrelation, batch_means, overlapping_batch_means, von_neumann
from sim.stats.bootstrap import Bootstrap, bootstrap, pooled_quantile, ratio
from sim.stats.controls import Controlled, controlled
from sim.stats.intervals import Interval, coverage, standard_errors, t_cdf, t_interval, t_quantile, wilson
from sim.stats.multiplicity import against_control, benjamini_hochberg, bonferroni, holm
from sim.stats.pairs import PairedDifference, paired
from sim.stats.quantiles import histogram_quantiles, quantile_interval, quantiles
from sim.stats.samples import Equivalence, WelchDifference, equivalent, welch
from sim.stats.selection import Feasibility, KimNelson, ocba, screen
from sim.stats.stopping import Stopping, precise, replications_to_clear, replications_wanted
from sim.stats.targets import chance_below, chance_share_above, lower_bound, share_lower_bound, upper_bound
from sim.stats.warmup import Truncation, mser5

__all__ = [
    "Antithetic",
    "BatchMeans",
    "Bootstrap",
    "Controlled",
    "Equivalence",
    "Feasibility",
    "Interval",
    "KimNelson",
    "PairedDifference",
    "Stopping",
    "Truncation",
    "WelchDifference",
    "against_control",
    "antithetic",
    "autocorrelation",
    "batch_means",
    "benjamini_hochberg",
    "bonferroni",
    "bootstrap",
    "chance_below",
    "chance_share_above",
    "controlled",
    "coverage",
    "equivalent",
    "histogram_quantiles",
    "holm",
    "lower_bound",
    "mser5",
    "ocba",
    "overlapping_batch_means",
    "paired",
    "pooled_quantile",
    "precise",
    "quantile_interval",
    "quantiles",
    "ratio",
    "replications_to_clear",
    "replications_wanted",
    "screen",
    "share_lower_bound",
    "standard_errors",
    "t_cdf",
    "t_interval",
    "t_quantile",
    "upper_bound",
    "von_neumann",
    "welch",
    "wilson",
]
