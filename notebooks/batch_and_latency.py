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
    "../scenarios/chat_capacity.yaml",
    {"run.duration": "3m", "run.replications": 3, "run.warmup": "30s", "options": {}},
)
study = Study(scenario)


def measured(tasks, label, values, **columns):
    """A row a point, by the value that was changed; columns are figures with a factor that gives their unit."""
    rows = []
    for outcome in study.evaluate(tasks):
        if outcome.error:
            raise RuntimeError(outcome.error)
        rows.append([outcome.figures.estimate(name).value * factor for name, factor in columns.values()])
    return pd.DataFrame(rows, index=pd.Index(values, name=label), columns=list(columns))


# %% [markdown]
# ## How many users at once
#
# A closed loop keeps a fixed number of requests under way on one GPU: as many as there are users. More of them make better use of
# each step, until they only make each other wait.

# %%
users = (1, 2, 4, 8, 16, 32, 64, 128, 256)
tasks = [
    Task(
        {
            "workloads.chat.arrivals": {"closed_loop": n},
            "workloads.chat.lengths": {"prompt": 1000, "output": 250},
            "deployments.chat.replicas": 1,
            "run.duration": "90s",
        },
        count=1,
    )
    for n in users
]
columns = {
    "output tokens/s": ("output_tokens_per_s", 1),
    "TPOT p50 (ms)": ("tpot_p50", 1e3),
    "TTFT p50 (ms)": ("ttft_p50", 1e3),
    "sequences a step": ("batch_mean", 1),
}
loops = measured(tasks, "users", users, **columns)
loops.round(1)

# %%
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
axes.plot(loops["TPOT p50 (ms)"], loops["output tokens/s"], "o-")
for n, (rate, pace, *_) in loops.iterrows():
    axes.annotate(f"{n}", (pace, rate), xytext=(7, -9), textcoords="offset points")
axes.set(yscale="log", xlabel="TPOT p50 (ms)", ylabel="output tokens a second")
axes.set_yticks(marks := [100, 200, 500, 1000, 2000, 5000], [f"{mark:,}" for mark in marks])
axes.minorticks_off()
axes.margins(0.1)
axes.set_title("One H100, by users at once")
plt.show()

# %% [markdown]
# To the left of the bend more users are nearly free: a step reads the weights once, for however many sequences. To the right each
# of them costs the others time.
#
# ## Sequences a step
#
# Open traffic, four GPUs. A low `max_num_seqs` keeps tokens quick and lets requests wait for a place; a high one lets everybody in.

# %%
four = {"deployments.chat.replicas": 4}
seats = (16, 32, 64, 128, 256)
tasks = [Task({"deployments.chat.engine.max_num_seqs": n, **four}) for n in seats]
columns = {
    "wait for a place p99 (s)": ("queue_p99", 1),
    "TTFT p99 (s)": ("ttft_p99", 1),
    "TPOT p99 (ms)": ("tpot_p99", 1e3),
    "within objectives (%)": ("slo_attainment", 100),
}
measured(tasks, "max_num_seqs", seats, **columns).round(2)

# %% [markdown]
# ## Tokens a step
#
# A long prompt in a step delays the tokens of all others in it. A small budget cuts prompts into chunks: TPOT gets better, TTFT worse.

# %%
tokens = (512, 1024, 2048, 4096, 8192)
tasks = [Task({"deployments.chat.engine.max_num_batched_tokens": n, **four}) for n in tokens]
columns = {"TTFT p99 (ms)": ("ttft_p99", 1e3), "TPOT p99 (ms)": ("tpot_p99", 1e3)}
budget = measured(tasks, "tokens", tokens, **columns)
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
axes.plot(budget["TPOT p99 (ms)"], budget["TTFT p99 (ms)"], "o-")
for n, (ttft, tpot) in budget.iterrows():
    axes.annotate(f"{n:,}", (tpot, ttft), xytext=(6, 6), textcoords="offset points")
axes.margins(0.12)
axes.set(xlabel="TPOT p99 (ms)", ylabel="TTFT p99 (ms)", title="Four H100s, by tokens a step")
plt.show()

# %% [markdown]
# Every point saw the same requests, so what differs is the setting's doing, on these requests. For many points use
# [`twinfer sweep`](../docs/sweeps.md), which keeps what it has done.
