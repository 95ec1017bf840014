# %% [markdown]
# # How many GPUs?
#
# The first question of every capacity plan, and three more that come with its answer: how sure is that, at which load does it stop
# being true, and what do bursts change?

# %%
import sim

shipped = "../scenarios/chat_capacity.yaml"
steady = {
    "workloads.chat.arrivals": {"rate": "42/s"},  # the mean of the scenario's traffic, without its bursts
    "workloads.chat.lengths": {"preset": "azure-2023-conv"},
    "run.duration": "2m",
    "options": {},
}
scenario = sim.load(shipped, steady)
scenario

# %% [markdown]
# ## The cheapest that does
#
# All numbers of replicas see the same requests, and replications go where the answer is close, until it is sure or says what it would
# take.

# %%
optimum = sim.optimize(scenario, over={"deployments.chat.replicas": "1..8"})
optimum

# %% [markdown]
# ## The whole picture
#
# How many requests meet every objective, by load and replicas. Nothing is searched here: every point of the grid is simulated.

# %%
from matplotlib import pyplot as plt

rates = [15, 25, 35, 45, 60, 80]
found = sim.sweep(
    scenario.with_changes({"run.duration": "1m", "run.replications": 2}),
    {"deployments.chat.replicas": "1..6", "workloads.chat.arrivals.rate": rates},
)
grid = found.frame.pivot(
    index="deployments.chat.replicas",
    columns="workloads.chat.arrivals.rate",
    values="slo_attainment",
)
figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
drawn = axes.imshow(grid, vmin=0, vmax=1, origin="lower", aspect="auto")
axes.set_xticks(range(len(grid.columns)), [f"{rate:g}" for rate in grid.columns])
axes.set_yticks(range(len(grid.index)), grid.index)
for (replicas, rate), share in grid.stack().items():
    place = (grid.columns.get_loc(rate), grid.index.get_loc(replicas))
    color = "white" if share < 0.6 else "black"
    axes.annotate(f"{share:.0%}", place, ha="center", va="center", color=color, fontsize=8)
axes.set(xlabel="requests a second", ylabel="replicas", title="Requests that meet every objective")
figure.colorbar(drawn, format="{x:.0%}")
plt.show()

# %% [markdown]
# ## What breaks first
#
# With the fleet that was chosen: the load, as a multiple of what it has now, at which each objective fails and each limit is met.

# %%
chosen = optimum.winner_scenario.with_changes({"run.replications": 4})
fragile = sim.sensitivity(chosen, methods=["breaks"])
print(*fragile.summary, sep="\n")
fragile.breaks[["name", "kind", "target", "at", "half_width"]].round(3)

# %% [markdown]
# ## What bursts change
#
# The same mean rate, as bursty as the recorded hour. The fleet of the steady answer, and larger ones:

# %%
fewest = optimum.winner["deployments.chat.replicas"]
options = {f"{n} GPUs": {"deployments.chat.replicas": n} for n in range(fewest, fewest + 3)}
bursty = sim.load(shipped, {"run.duration": "4m", "run.replications": 4, "options": options})
sim.compare(bursty)

# %% [markdown]
# Plan with the traffic you have, not with its mean. And with long enough runs: these are short, to be quick, and longer ones meet
# rarer bursts. `twinfer compare scenarios/chat_capacity.yaml` has the full length.
#
# Next: [files to deploy](../docs/deploy.md) it, or a [tornado](../docs/sensitivity.md) of everything that matters.
