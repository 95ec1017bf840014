# %% [markdown]
# # What if
#
# Turn a knob and see what becomes of the latencies and of the bill. The same requests are sent before and after, so a difference
# is the knob's; with each comes its interval.

# %%
import sim

scenario = sim.load("../scenarios/chat_capacity.yaml").with_option("4-gpus")
w = sim.what_if(scenario)
w

# %% [markdown]
# **Load** multiplies the traffic of the scenario. **Replicas** go up to what the pool holds. **Token budget** and **max sequences** bound a
# step of the engine; a smaller budget splits prompts over more steps, which helps the tokens of others. **Pin** makes what is now
# the baseline. **Copy as YAML** gives the changes as an option of the scenario, for a whole comparison.
#
# ## The same from Python
#
# What the widget shows can be read and driven. Half as much traffic again, on the same GPUs:

# %%
w.set({"workloads.chat.arrivals.scale": 12})
print(w.verdict)
w.frame().round(3)

# %% [markdown]
# And with two GPUs more, against that:

# %%
w.pin()
w.set({"workloads.chat.arrivals.scale": 12, "deployments.chat.replicas": 6})
print(w.verdict)
w.frame().round(3)

# %% [markdown]
# Both saw the same requests, so luck that struck both is not in their difference: compare the half-widths.

# %%
for figure, difference in w.difference.items():
    alone = w.result.summary[figure].half_width
    print(f"{figure}: alone ± {alone:.3g}, the difference {difference.difference:+.3g} ± {difference.half_width:.3g}")

# %% [markdown]
# The changes as an option, to compare in full:

# %%
print(w.yaml("busier"))

# %% [markdown]
# ## Knobs of your own
#
# Any path of the scenario, with a list of values or a range. Here the share of GPU memory that the engine may use, and how many
# prompt tokens one request may have in a step; `duration` in seconds fixes how long a run is.

# %%
own = sim.what_if(
    scenario,
    duration=60,
    knobs={
        "deployments.chat.engine.gpu_memory_utilization": [0.5, 0.7, 0.92],
        "deployments.chat.engine.long_prefill_token_threshold": {"from": 256, "to": 4096, "steps": 5, "scale": "log"},
    },
)
own
