# %% [markdown]
# # Getting started
#
# A scenario asks one question. This one: how many H100s serve the chat traffic of a product, with p99 TTFT under 2 s and
# p99 TPOT under 50 ms, and at what cost?

# %%
import sim

scenario = sim.load("../scenarios/chat_capacity.yaml")
scenario

# %% [markdown]
# ## Compare the options
#
# Every option is sent the same requests, so that a difference between two is theirs and not luck. Six replications of ten
# minutes each give every figure its interval.

# %%
comparison = sim.compare(scenario)
comparison

# %% [markdown]
# The answer in a sentence, and why the others do not do:

# %%
print(comparison.verdict.sentence)
for option, missed in comparison.verdict.misses.items():
    for reason in missed:
        print(f"{option} misses {reason}")

# %% [markdown]
# ## Everything is a table
#
# Figures with their half-widths, a row an option, as a DataFrame:

# %%
comparison.table(["ttft_p99", "tpot_p99", "slo_attainment", "usd_per_hour"]).round(3)

# %% [markdown]
# Every request, with where its time went:

# %%
requests = comparison.options["3-gpus"].requests
requests[
    [
        "arrival_s",
        "prompt_tokens",
        "output_tokens",
        "replica",
        "queue_s",
        "ttft_s",
        "tpot_s",
        "e2e_s",
    ]
].head()

# %% [markdown]
# So any question can be asked of it in pandas. How long do requests wait for their first token, by option?

# %%
import pandas as pd

ttft = pd.DataFrame({name: result.requests["ttft_s"] for name, result in comparison.options.items()})
ttft.quantile([0.5, 0.9, 0.99]).round(3)

# %%
from matplotlib import pyplot as plt

figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
for name, values in ttft.items():
    axes.ecdf(values.dropna(), label=name)
axes.axvline(2.0, color="grey", linestyle=":", label="objective")
axes.set(xscale="log", xlabel="TTFT (s)", ylabel="share of requests", title="Time to first token")
axes.legend(loc="lower right")
plt.show()

# %% [markdown]
# ## Change something
#
# Any field has a path; what is set by it is checked, and a mistake is named where it stands.

# %%
larger = sim.load(
    "../scenarios/chat_capacity.yaml",
    {"deployments.chat.replicas": 4, "workloads.chat.arrivals.scale": 10},
)
result = sim.simulate(larger, replications=3)
result

# %%
try:
    sim.load("../scenarios/chat_capacity.yaml", {"deployments.chat.replica": 4})
except sim.ConfigError as error:
    print(error)

# %% [markdown]
# Next: let it search in [how many GPUs](how_many_gpus.ipynb), or turn the knobs by hand in [what if](what_if.ipynb).
