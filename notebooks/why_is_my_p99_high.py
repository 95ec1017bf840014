# %% [markdown]
# # Why is my p99 high?
#
# Three GPUs for traffic that needs four, most of the time. The mean looks fine, the p99 does not. What did those requests spend
# their time on?

# %%
import numpy as np
import pandas as pd
import sim
from matplotlib import pyplot as plt

scenario = sim.load(
    "../scenarios/chat_capacity.yaml",
    {"workloads.chat.arrivals.scale": 10, "deployments.chat.replicas": 3, "options": {}},
)
result = sim.simulate(scenario, replications=4)
pd.DataFrame([standing.to_json() for standing in result.objectives])[
    ["metric", "target", "value", "half_width", "status"]
]

# %% [markdown]
# ## In a sentence

# %%
for sentence in result.why:
    print(sentence, "\n")

# %% [markdown]
# ## In parts
#
# The time to first token of every request, split into parts that add up to it. On the left who waits about as long as the
# median, on the right the slowest hundredth.

# %%
from sim.observe.causes import split

record = result.records[0]
served = np.flatnonzero(record.ok & (record.columns["arrival_s"] >= result.warmup_s))
parts = pd.DataFrame(split(record, "ttft", served))
total = parts.sum(axis=1)
groups = {
    "around the median": parts[total.between(total.quantile(0.45), total.quantile(0.55))],
    "slowest tenth": parts[total >= total.quantile(0.9)],
    "slowest hundredth": parts[total >= total.quantile(0.99)],
}
shares = pd.DataFrame({name: rows.mean() for name, rows in groups.items()}).T
shares = shares.loc[:, shares.max() > 1e-6]
shares.round(4)

# %%
axes = shares.plot.barh(stacked=True, figsize=(7, 2.6))
axes.invert_yaxis()
axes.set(xlabel="seconds of TTFT, on average", ylabel="")
axes.figure.set_layout_engine("constrained")
plt.show()

# %% [markdown]
# ## When
#
# The tail is not spread evenly: it comes in the minutes in which the load is above what three GPUs hold. Every point is a request.

# %%
requests = result.requests.query("replication == 0")
minute = requests["arrival_s"] / 60
rate = requests.groupby((minute * 6).astype(int)).size() / 10
figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 4.4), sharex=True, layout="constrained", height_ratios=[1, 1.6])
top.stairs(rate, np.append(rate.index, rate.index[-1] + 1) / 6, fill=True, alpha=0.6)
top.set(ylabel="requests/s", title="First replication")
bottom.plot(minute, requests["ttft_s"], ".", markersize=2, alpha=0.5)
bottom.axhline(2.0, color="black", linestyle=":", linewidth=1)
bottom.set(yscale="log", xlabel="minute", ylabel="TTFT (s)")
plt.show()

# %% [markdown]
# ## What would help?
#
# If it is queueing, more replicas or less load; if batching, a smaller token budget; if preemption, more KV cache. The same requests,
# four ways:

# %%
options = {
    "as it is": {},
    "a fourth GPU": {"deployments.chat.replicas": 4},
    "smaller steps": {"deployments.chat.engine.max_num_batched_tokens": 2048},
    "fewer at once": {"deployments.chat.engine.max_num_seqs": 64},
    "power of two choices": {"deployments.chat.router": {"kind": "power-of-two"}},
}
changes = {"workloads.chat.arrivals.scale": 10, "deployments.chat.replicas": 3, "options": options}
helped = sim.compare(sim.load("../scenarios/chat_capacity.yaml", changes), replications=4)
helped.table(["ttft_p50", "ttft_p99", "tpot_p99", "slo_attainment"]).round(3)

# %% [markdown]
# To walk through single requests, steps and KV blocks, write a trace for Perfetto: `twinfer report RUN --timeline`.
