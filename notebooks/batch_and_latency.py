# %% [markdown]
# # Batch size and latency
#
# Batching is why LLM serving is cheap and why it is slow. Two settings of the engine decide: how many sequences may share a step
# (`max_num_seqs`) and how many tokens a step may hold (`max_num_batched_tokens`). What do they do to this chat?

# %%
import pandas as pd
import sim
from matplotlib import pyplot as plt
from sim.study import Study, Task

scenario = sim.load(
    "../scenarios/chat_capacity.yaml", {"run.duration": "4m", "run.replications": 3, "run.warmup": "30s", "options": {}}
)
study = Study(scenario)


def measured(tasks, names):
    """A row a point: what was changed, and the figures."""
    rows = []
    for outcome in study.evaluate(tasks):
        if outcome.error:
            raise RuntimeError(outcome.error)
        rows.append({**outcome.point, **{name: outcome.figures.estimate(name).value for name in names}})
    return pd.DataFrame(rows)


# %% [markdown]
# ## How many users at once
#
# A closed loop keeps a fixed number of requests under way on one GPU: as many as there are users. More of them make better use of
# each step, until they only make each other wait.

# %%
users = "workloads.chat.arrivals"
tasks = [
    Task(
        {
            users: {"closed_loop": n},
            "workloads.chat.lengths": {"prompt": 1000, "output": 250},
            "deployments.chat.replicas": 1,
            "run.duration": "90s",
        },
        count=1,
    )
    for n in (1, 2, 4, 8, 16, 32, 64, 128, 256)
]
loops = measured(tasks, ["output_tokens_per_s", "tpot_p50", "ttft_p50", "batch_mean"])
loops[users] = [point["closed_loop"] for point in loops[users]]
loops = loops.drop(columns=["workloads.chat.lengths", "deployments.chat.replicas", "run.duration"]).rename(
    columns={users: "users"}
)
loops.round(4)

# %%
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
axes.plot(loops["tpot_p50"] * 1e3, loops["output_tokens_per_s"], "o-")
for _, row in loops.iterrows():
    axes.annotate(
        f"{row['users']:.0f}",
        (row["tpot_p50"] * 1e3, row["output_tokens_per_s"]),
        xytext=(5, -11),
        textcoords="offset points",
    )
axes.set(
    xlabel="median time per output token (ms)", ylabel="output tokens a second", title="One H100, by users at once"
)
plt.show()

# %% [markdown]
# ## Sequences a step
#
# Open traffic, four GPUs. A low `max_num_seqs` keeps tokens quick and lets requests wait for a place; a high one lets everybody in.

# %%
path = "deployments.chat.engine.max_num_seqs"
four = {"deployments.chat.replicas": 4}
tasks = [Task({path: n, **four}) for n in (8, 16, 32, 64, 128, 256)]
seats = measured(tasks, ["queue_p99", "ttft_p99", "tpot_p99", "slo_attainment"])
seats.drop(columns="deployments.chat.replicas").rename(columns={path: "max_num_seqs"}).round(4)

# %% [markdown]
# ## Tokens a step
#
# A long prompt in a step delays the tokens of all others in it. A small budget cuts prompts into chunks: TPOT gets better, TTFT worse.

# %%
path = "deployments.chat.engine.max_num_batched_tokens"
tasks = [Task({path: n, **four}) for n in (512, 1024, 2048, 4096, 8192)]
budget = measured(tasks, ["ttft_p99", "tpot_p99", "slo_attainment"])
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
axes.plot(budget["tpot_p99"] * 1e3, budget["ttft_p99"], "o-")
for _, row in budget.iterrows():
    axes.annotate(
        f"{row[path]:,.0f}", (row["tpot_p99"] * 1e3, row["ttft_p99"]), xytext=(6, 4), textcoords="offset points"
    )
axes.set(xlabel="TPOT p99 (ms)", ylabel="TTFT p99 (s)", title="Four H100s, by tokens a step")
plt.show()

# %% [markdown]
# Every point saw the same requests, so the shape of such a curve is the engine's, not luck's. For many more points use
# [`twinfer sweep`](../docs/sweeps.md), which keeps what it has done.
