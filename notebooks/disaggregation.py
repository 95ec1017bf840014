# %% [markdown]
# # Would disaggregation help?
#
# A replica does prefills and decodes in the same steps, so a long prompt slows down everybody's next token. Disaggregated serving
# gives prefill and decode GPUs of their own and sends the KV cache from one to the other. **twinfer does not simulate such a fleet
# yet.** What can be had today is a *bound*: how good could it get at best, and is that worth trying?
#
# - **Prefill side**, simulated: the same requests with one output token each, on P of the GPUs. Their TTFT is what prefill
#   replicas would give.
# - **Transfer**, worked out: bytes of a prompt's KV cache over the link, nobody else on it.
# - **Decode side**, worked out from the measured step times: on D GPUs the batch settles where Little's law holds, requests in
#   flight = arrival rate × tokens × time of a step at that batch. No waiting, no prefill in the way, no batch that happens
#   to be large: nothing real is to be expected to do better.

# %%
import pandas as pd
import sim
from matplotlib import pyplot as plt
from sim import catalog, profiles
from sim.perf.compile import step_table

GPUS = 4
RATE, PROMPT, OUTPUT = 14.0, 5000, 250  # requests a second, mean tokens

base = {
    "run.duration": "4m",
    "run.replications": 3,
    "run.warmup": "20s",
    "deployments.chat.replicas": GPUS,
    "workloads.chat.arrivals": {"rate": RATE},
    "workloads.chat.lengths": {
        "prompt": {"lognormal": {"mean": PROMPT, "cv": 0.7}, "max": 30000},
        "output": {"lognormal": {"mean": OUTPUT, "cv": 0.6}, "max": 2000},
    },
    "options": {},
}
scenario = sim.load("../scenarios/chat_capacity.yaml", base)

# %% [markdown]
# ## Together
#
# All four GPUs do both. Smaller steps (`max_num_batched_tokens`) protect the decodes and make prompts wait: the knob that is
# there without any new architecture.

# %%
together = {}
for tokens in (512, 1024, 2048, 8192):
    result = sim.simulate(scenario.with_changes({"deployments.chat.engine.max_num_batched_tokens": tokens}))
    together[tokens] = {name: result.summary[name].value for name in ("ttft_p99", "tpot_mean", "tpot_p99")}
together = pd.DataFrame.from_dict(together, orient="index").rename_axis("tokens a step")
(together * [1, 1e3, 1e3]).rename(
    columns={"ttft_p99": "TTFT p99 (s)", "tpot_mean": "TPOT mean (ms)", "tpot_p99": "TPOT p99 (ms)"}
).round(2)

# %% [markdown]
# ## Apart, at best

# %%
profile = profiles.load("h100-sxm/llama-3.1-8b/tp1")
steps = step_table(profile, 1024, 8192)
link = {row["name"]: row for row in catalog.rows("links")}["infiniband-ndr"]
transfer = PROMPT * profile.memory.kv_bytes_per_token / (link["bandwidth_GB/s"] * 1e9)
print(
    f"a mean prompt's cache: {PROMPT * profile.memory.kv_bytes_per_token / 1e6:.0f} MB, {transfer * 1e3:.1f} ms over {link['title']}"
)


def decode_bound(gpus):
    """Seconds a token where batch and pace agree (Little's law); None if the batch never settles within 1,024."""
    rate, context = RATE / gpus, PROMPT + OUTPUT / 2
    for batch in range(1, 1025):
        pace = steps.decode_step(batch, int(batch * context), 0)
        if rate * OUTPUT * pace <= batch:
            return pace, batch
    return None, None


rows = {}
for prefill in range(1, GPUS):
    changes = {
        "deployments.chat.replicas": prefill,
        "workloads.chat.lengths.output": 1,
        "workloads.chat.objectives": None,
    }
    result = sim.simulate(scenario.with_changes(changes))
    pace, batch = decode_bound(GPUS - prefill)
    rows[f"{prefill} prefill + {GPUS - prefill} decode"] = {
        "TTFT p99 (s)": result.summary["ttft_p99"].value,
        "prefill GPUs busy": result.summary["gpu_utilization"].value,
        "TPOT at best (ms)": None if pace is None else pace * 1e3,
        "batch": batch,
    }
apart = pd.DataFrame.from_dict(rows, orient="index").round(2)
apart

# %% [markdown]
# A prefill side that is busy all the time never catches up: its TTFT only says how long the run was. Such splits are left out below.
# The transfer delays a request's second token, once.

# %% [markdown]
# ## Side by side
#
# Down and to the left is better. The stars are bounds, the dots are simulations of what is deployed today.

# %%
figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
axes.plot(together["ttft_p99"], together["tpot_mean"] * 1e3, "o-", label="together, by tokens a step")
for tokens, row in together.iterrows():
    axes.annotate(
        tokens, (row["ttft_p99"], row["tpot_mean"] * 1e3), xytext=(-6, -12), textcoords="offset points", ha="right"
    )
apart = apart[apart["prefill GPUs busy"] < 0.95]
axes.plot(apart["TTFT p99 (s)"], apart["TPOT at best (ms)"], "*", markersize=11, label="apart, at best")
for name, row in apart.iterrows():
    place = (row["TTFT p99 (s)"], row["TPOT at best (ms)"])
    axes.annotate(name, place, xytext=(0, 8), textcoords="offset points", ha="center")
axes.margins(x=0.25, y=0.15)
axes.set(xlabel="TTFT p99 (s)", ylabel="TPOT mean (ms)")
axes.set_title(f"{GPUS} H100s, {RATE:g} requests a second of {PROMPT:,} tokens")
axes.legend()
plt.show()

# %% [markdown]
# What a split could gain at best over today's fleet, at the token budget that comes nearest to its TTFT:

# %%
for name, row in apart.iterrows():
    nearest = (together["ttft_p99"] - row["TTFT p99 (s)"]).abs().idxmin()
    now = together.loc[nearest]
    print(
        f"{name}: TTFT p99 {row['TTFT p99 (s)']:.2f} s against {now['ttft_p99']:.2f} s, TPOT at best"
        f" {row['TPOT at best (ms)']:.1f} ms against {1e3 * now['tpot_mean']:.1f} ms ({nearest} tokens a step)"
    )

# %% [markdown]
# If even the bound does not beat a small token budget by much, the answer is no, and no further study is needed. If it does, the bound
# says which split to build first, and the difference is what a real system may lose to transfers, uneven load and waiting
# before it is a loss.
