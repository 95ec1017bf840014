# %% [markdown]
# # Cost and carbon
#
# The same chat on the same number of GPUs: what does it cost with each cloud and contract, and what does it emit in each region? Latency
# does not depend on either, so one simulation of the traffic is enough to see all of it, and `compare` makes sure that it is
# the same traffic.

# %%
import pandas as pd
import sim
from matplotlib import pyplot as plt
from sim import catalog

# %% [markdown]
# ## Prices of one H100 an hour
#
# From the catalog; every figure has its source and date (`twinfer catalog instances NAME`).

# %%
instances = pd.DataFrame(catalog.rows("instances")).set_index("name")
h100 = instances[instances["gpu"].isin(["h100-sxm", "h100-pcie", "h100-nvl"])].sort_values("usd/gpu/h")
h100[["gpu", "gpus", "usd/gpu/h", "spot_usd/h", "region"]].head(12)

# %% [markdown]
# ## Contracts
#
# The four GPUs that the chat needs, paid in three ways. Whole machines are paid, by the second; reserved ones whether used or not.

# %%
contracts = {
    "on demand": {"kind": "on-demand"},
    "reserved, 40 % less": {"kind": "reserved", "reserved": 4, "discount": "40%"},
    "half reserved": {"kind": "reserved", "reserved": 2, "discount": "40%"},
}
options = {name: {"cluster.pools.h100.billing": billing} for name, billing in contracts.items()}
given = {"run.replications": 3, "deployments.chat.replicas": 4, "options": options}
paid = sim.compare(sim.load("../scenarios/chat_capacity.yaml", given))
paid.table(["usd_per_hour", "usd_per_month", "usd_per_1m_tokens", "usd_per_met_request"]).xs(
    "value", axis=1, level=1
).round(4)

# %% [markdown]
# ## A cheaper GPU?
#
# What counts is the price of a request that met its objectives, not that of an hour. As many GPUs as each needs for the same chat:

# %%
hardware = {
    "4 H100": {},
    "4 H200": {
        "cluster.pools.h100": {"name": "h100", "gpu": "h200-sxm", "gpus_per_node": 1, "nodes": 16, "price": 4.5}
    },
    "9 A100": {
        "cluster.pools.h100": {"name": "h100", "gpu": "a100-sxm", "gpus_per_node": 1, "nodes": 16, "price": 2.0},
        "deployments.chat.replicas": 9,
    },
}
for changes in hardware.values():
    changes["deployments.chat.profile"] = None  # that of the GPU and the model
options = hardware
given = {"run.replications": 3, "run.duration": "5m", "deployments.chat.replicas": 4, "options": options}
fleets = sim.compare(sim.load("../scenarios/chat_capacity.yaml", given))
fleets.table(["ttft_p99", "tpot_p99", "slo_attainment", "usd_per_hour", "usd_per_met_request"]).xs(
    "value", axis=1, level=1
).round(5)

# %% [markdown]
# The prices of the H200 and the A100 here are assumptions: put in your own.
#
# ## Where it stands
#
# Energy is that of the GPUs by their load, of the rest of the machines, and of the building; carbon that of the region's grid on
# yearly average. The same fleet, region by region:

# %%
regions = ["aws/eu-north-1", "aws/ca-central-1", "aws/eu-west-1", "aws/us-east-1", "aws/ap-south-1"]
options = {name.removeprefix("aws/"): {"energy": {"region": name}} for name in regions}
given = {"run.replications": 2, "run.duration": "5m", "deployments.chat.replicas": 4, "energy": {}, "options": options}
sites = sim.compare(sim.load("../scenarios/chat_capacity.yaml", given))
emitted = sites.table(["energy_kwh", "j_per_token", "gco2"]).xs("value", axis=1, level=1)
hours = sites.options["eu-north-1"].records[0].end / 3600
emitted["kg CO2 a month"] = emitted["gco2"] / hours * 730 / 1000
emitted.round(2)

# %%
axes = emitted["kg CO2 a month"].sort_values().plot.barh(figsize=(7, 2.6))
axes.set(xlabel="kg of CO2 in a month of this", ylabel="")
axes.figure.set_layout_engine("constrained")
plt.show()

# %% [markdown]
# What the GPUs draw was assumed here, not measured, and every result says so:

# %%
print(*sites.options["eu-north-1"].warnings, sep="\n")
