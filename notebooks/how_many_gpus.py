# %% [markdown]
# # How many GPUs?
#
# The first question of every capacity plan, and three more that come with its answer: how sure is that, at which load does it stop
# being true, and what would change it?

# %%
import sim

scenario = sim.load("../scenarios/chat_capacity.yaml", {"run.duration": "4m"})  # shorter than shipped, to be quick
scenario.question

# %% [markdown]
# ## The cheapest that does
#
# The number of replicas is searched by bisection. All of them see the same requests, and replications go where the answer is close,
# until it is sure.

# %%
optimum = sim.optimize(scenario, over={"deployments.chat.replicas": "1..8"})
optimum

# %%
print(optimum.sentence)
print(optimum.effort)

# %% [markdown]
# ## The whole picture
#
# How many requests meet every objective, by load and replicas. Nothing is searched here: every point of the grid is simulated.

# %%
from matplotlib import pyplot as plt

found = sim.sweep(
    sim.load("../scenarios/chat_capacity.yaml", {"run.duration": "2m", "run.replications": 2, "options": {}}),
    {"deployments.chat.replicas": "1..6", "workloads.chat.arrivals.scale": [4, 6, 8, 10, 12, 16]},
)
grid = found.frame.pivot(
    index="deployments.chat.replicas", columns="workloads.chat.arrivals.scale", values="slo_attainment"
)
figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
drawn = axes.pcolormesh(grid.values, vmin=0, vmax=1, cmap="viridis")
axes.set_xticks([place + 0.5 for place in range(len(grid.columns))], [f"x{scale:g}" for scale in grid.columns])
axes.set_yticks([place + 0.5 for place in range(len(grid.index))], grid.index)
for row, values in enumerate(grid.values):
    for column, share in enumerate(values):
        axes.text(
            column + 0.5,
            row + 0.5,
            f"{share:.0%}",
            ha="center",
            va="center",
            color="white" if share < 0.6 else "black",
            fontsize=8,
        )
axes.set(xlabel="load, times the recorded hour", ylabel="replicas", title="Requests that meet every objective")
figure.colorbar(drawn, format="{x:.0%}")
plt.show()

# %% [markdown]
# ## What breaks first
#
# With the fleet that was chosen: the load at which each objective fails.

# %%
chosen = optimum.winner_scenario.with_changes({"run.replications": 4, "run.duration": "2m"})
fragile = sim.sensitivity(chosen, methods=["breaks"])
fragile.breaks[["name", "kind", "target", "at", "half_width"]]

# %%
print(*fragile.summary, sep="\n")

# %% [markdown]
# Next: [files to deploy](../docs/deploy.md) it, or a [tornado](../docs/sensitivity.md) of everything that matters.
