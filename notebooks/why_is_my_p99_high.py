# %% [markdown]
# # Why is my p99 high?
#
# Three GPUs for traffic that at times needs four. The median looks fine, the p99 does not. What did the slow requests spend their
# time on?

# %%
import numpy as np
import pandas as pd
import sim
from matplotlib import pyplot as plt

changes = {
    "workloads.chat.arrivals.scale": 10,
    "deployments.chat.replicas": 3,
    "run.duration": "6m",
    "run.warmup": "30s",
    "run.replications": 4,
}
scenario = sim.load("../scenarios/chat_capacity.yaml", {**changes, "options": {}})
result = sim.simulate(scenario)
result

# %% [markdown]
# ## In a sentence

# %%
for sentence in result.why:
    print(sentence, "\n")

# %% [markdown]
# ## In parts
#
# The time to first token of every request, split into parts that add up to it. Who waits about as long as the median,
# and the slowest. In seconds:

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
axes = (100 * shares.div(shares.sum(axis=1), axis=0)).plot.barh(stacked=True, figsize=(7, 2.6))
axes.invert_yaxis()
axes.set(xlabel="share of their TTFT (%)", ylabel="", xlim=(0, 100))
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
axes.figure.set_layout_engine("constrained")
plt.show()

# %% [markdown]
# ## When
#
# Is the tail spread evenly, or does it come when the load is above what three GPUs hold? Every point is a request.

# %%
requests = result.requests.query("replication == 0")
minute = requests["arrival_s"] / 60
rate = requests.groupby((minute * 6).astype(int)).size() / 10
layout = {"figsize": (7, 4.4), "layout": "constrained", "height_ratios": [1, 1.6]}
figure, (top, bottom) = plt.subplots(2, 1, sharex=True, **layout)
top.stairs(rate, np.append(rate.index, rate.index[-1] + 1) / 6, fill=True, alpha=0.6)
top.set(ylabel="requests/s", title="First replication")
bottom.plot(minute, requests["ttft_s"], ".", markersize=2, alpha=0.5)
bottom.axhline(2.0, color="black", linestyle=":", linewidth=1, label="objective")
bottom.legend(loc="upper left")
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
helped = sim.compare(sim.load("../scenarios/chat_capacity.yaml", {**changes, "options": options}))
helped.table(["ttft_p50", "ttft_p99", "tpot_p99", "slo_attainment"]).round(3)

# %% [markdown]
# To walk through single requests, steps and KV blocks, write a trace for Perfetto: `twinfer report RUN --timeline`.
