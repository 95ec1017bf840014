# %% [markdown]
# # Many models, few GPUs
#
# Four models, each used for five minutes in three quarters of an hour. Always on they need four GPUs. At zero they cost nothing, but
# whoever comes first waits. How long, and what is saved? Two replications of three of the eight hours; the whole question is
# `scenarios/scale_to_zero.yaml`.

# %%
import pandas as pd
import sim
from matplotlib import pyplot as plt

scenario = sim.load("../scenarios/scale_to_zero.yaml", {"run.duration": "3h"})
comparison = sim.compare(scenario, replications=2)
comparison.table(["ttft_p50", "ttft_p90", "ttft_p99", "usd_per_hour", "replicas_mean"]).xs(
    "value", axis=1, level=1
).round(2)

# %% [markdown]
# ## What a first request waits for
#
# The phases of a start of one of the models, as measured. Where weights and machines come from decides; an engine that sleeps only
# wakes.

# %%
phases = {
    name: pd.Series(dict(result.course.starts[0].phases))
    for name, result in comparison.options.items()
    if result.course.starts
}
phases = pd.DataFrame(phases).T.fillna(0.0)
phases = phases.loc[:, phases.max() > 0.05].rename(columns={"waited": "waiting for a machine"})
axes = phases.plot.barh(stacked=True, figsize=(7.5, 3.4), colormap="tab20")
axes.invert_yaxis()
axes.set(xlabel="seconds of a start, on average", ylabel="", ymargin=0.1)
axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
axes.figure.set_layout_engine("constrained")
plt.show()
phases.sum(axis=1).round(1).to_frame("seconds")

# %% [markdown]
# ## Who waits
#
# Time to first token of all requests. Far to the right are those who came first, or while a start was under way.

# %%
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
for name, result in comparison.options.items():
    axes.ecdf(result.requests["ttft_s"].dropna(), complementary=True, label=name)
axes.axvline(10, color="grey", linestyle=":", label="10 s")
axes.set(xscale="log", yscale="log", ylim=(1e-4, 1.1))
axes.set(xlabel="TTFT (s)", ylabel="share of requests that wait longer")
axes.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## When which model was awake
#
# Option `asleep`, first replication.

# %%
result = comparison.options["asleep"]
figure, panels = plt.subplots(
    len(result.course.lines), 1, figsize=(7, 4), sharex=True, sharey=True, layout="constrained"
)
for axes, line in zip(panels, result.course.lines, strict=True):
    hours = [seconds / 3600 for seconds in [*line.times, result.course.end]]
    axes.stairs(line.ready, hours, fill=True, alpha=0.7)
    axes.set_ylabel(line.deployment, rotation=0, ha="right", va="center")
    axes.set_yticks([])
panels[-1].set_xlabel("hours")
plt.show()

# %% [markdown]
# ## The bill
#
# Idle is the share that paid for GPUs no replica had: machines on their way, kept, or empty until they were let go.

# %%
bills = {
    name: {"$ in three hours": pool.usd.value, "idle (%)": 100 * pool.idle_share.value}
    for name, result in comparison.options.items()
    for pool in result.course.pools
}
pd.DataFrame(bills).T.round(1)
