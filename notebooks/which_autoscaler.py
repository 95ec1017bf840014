# %% [markdown]
# # Which autoscaler?
#
# A morning: quiet, then a ramp to five times the load with two bursts that are shorter than a replica takes to start. Each
# autoscaler is its system's own controller with its published defaults, on metrics as old as there. Here two replications of five of
# the ten options; `twinfer compare scenarios/autoscaler_shootout.yaml` runs them all, five times.

# %%
import json

import pandas as pd
import sim
from matplotlib import pyplot as plt

shootout = sim.load("../scenarios/autoscaler_shootout.yaml")
chosen = ["fixed-peak", "hpa-concurrency", "kpa-rate", "predictive", "oracle"]
scenario = sim.load(
    "../scenarios/autoscaler_shootout.yaml",
    {"options": {name: shootout.options[name] for name in chosen}},
)
comparison = sim.compare(scenario, replications=2)

# %% [markdown]
# ## Cost against what users got
#
# The oracle knows all requests in advance; its price is what the others are held against. Two replications decide little: look at
# the half-widths in `comparison.table()` before you choose.

# %%
table = comparison.table(["slo_attainment", "ttft_p99", "usd_per_hour", "replicas_mean"]).xs("value", axis=1, level=1)
table.round(3)

# %%
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
axes.plot(table["usd_per_hour"], table["slo_attainment"], "o", markersize=8)
for name, row in table.iterrows():
    axes.annotate(
        name,
        (row["usd_per_hour"], row["slo_attainment"]),
        xytext=(0, 8),
        textcoords="offset points",
        ha="center",
    )
axes.margins(x=0.15, y=0.2)
axes.yaxis.set_major_formatter("{x:.2%}")
axes.set(xlabel="$ an hour", ylabel="requests within objectives", title="Up and to the left is better")
plt.show()

# %% [markdown]
# ## Replicas over the morning
#
# What was asked for (line) and what was ready (area). Between the two lie cold starts.

# %%
figure, panels = plt.subplots(len(chosen), 1, figsize=(7, 8), sharex=True, sharey=True, layout="constrained")
for axes, name in zip(panels, chosen, strict=True):
    course = comparison.options[name].course
    (line,) = course.lines
    minutes = [seconds / 60 for seconds in [*line.times, course.end]]
    axes.stairs(line.ready, minutes, fill=True, alpha=0.6, label="ready")
    axes.stairs(line.target, minutes, baseline=None, color="black", linewidth=1, label="asked for")
    axes.set_title(name, loc="left", fontsize=10)
panels[0].legend(ncols=2, loc="upper right", fontsize=8)
panels[-1].set_xlabel("minutes")
figure.supylabel("replicas")
plt.show()

(starts,) = comparison.options["hpa-concurrency"].course.starts
print(f"{starts.median:.0f} s from decision to traffic (median), {starts.longest:.0f} s at the most")

# %% [markdown]
# ## Why not
#
# What the tail of each objective that is missed, or not sure to be met, spent its time on:

# %%
for name, result in comparison.options.items():
    for sentence in result.explained:
        if sentence:
            print(f"{name}: {sentence}\n")

# %% [markdown]
# ## What a controller saw
#
# Every decision is kept, with the numbers it was made from: here the first five of HPA.

# %%
events = comparison.options["hpa-concurrency"].events
scaled = events[events["kind"] == "scale"].head().set_index("t_s")
detail = pd.DataFrame(map(json.loads, scaled["detail"]), index=scaled.index)
scaled[["reason"]].join(detail[["before", "after", "average", "ready"]])
