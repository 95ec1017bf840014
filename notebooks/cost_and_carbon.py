# %% [markdown]
# # Cost and carbon
#
# One chat: what does it cost under each contract and on each GPU, and what does it emit in each region? `compare` sends all of them
# the same requests.

# %%
import pandas as pd
import sim
from matplotlib import pyplot as plt
from sim import catalog

# %% [markdown]
# ## Prices of one H100 an hour
#
# From the catalog; every figure has its source and date (`twinfer catalog instances NAME`); NaN where no spot price is known.

# %%
instances = pd.DataFrame(catalog.rows("instances")).set_index("name")
h100 = instances[instances["gpu"].isin(["h100-sxm", "h100-pcie", "h100-nvl"])].sort_values("usd/gpu/h")
h100[["gpu", "gpus", "usd/gpu/h", "spot_usd/h", "region"]].head(12)

# %% [markdown]
# ## Contracts
#
# Four GPUs, paid in three ways (the discount is an assumption). Latency does not depend on it. Whole machines are paid, by the
# second; reserved ones whether used or not.

# %%
contracts = {
    "on demand": {"kind": "on-demand"},
    "reserved, 40 % less": {"kind": "reserved", "reserved": 4, "discount": "40%"},
    "half reserved": {"kind": "reserved", "reserved": 2, "discount": "40%"},
}
options = {name: {"cluster.pools.h100.billing": billing} for name, billing in contracts.items()}
given = {"run.replications": 3, "run.duration": "5m", "deployments.chat.replicas": 4}


def compared(options, metrics, **more):
    """The comparison, and its figures without their half-widths; dollars a met request as dollars a thousand."""
    changes = given | more | {"options": options}
    found = sim.compare(sim.load("../scenarios/chat_capacity.yaml", changes))
    table = found.table(metrics).xs("value", axis=1, level=1)
    if "usd_per_met_request" in table:
        table["$ per 1,000 met"] = table.pop("usd_per_met_request") * 1000
    return found, table


_, table = compared(options, ["usd_per_hour", "usd_per_month", "usd_per_1m_tokens", "usd_per_met_request"])
table.round(3)

# %% [markdown]
# ## A cheaper GPU?
#
# What counts is the price of a request that met its objectives, not that of an hour. Fleets for the same chat, at what one cloud (AWS)
# takes for each GPU, as if they were to be had one by one. Whether fewer would do is a question for
# [`sim.optimize`](how_many_gpus.ipynb).

# %%
machines = {  # what it is called: the instance whose price a GPU is taken, GPUs
    "4 H100": ("aws/p5.4xlarge", 4),
    "4 H200": ("aws/p5en.48xlarge", 4),
    "9 A100": ("aws/p4de.24xlarge", 9),
}
hardware = {}
for name, (machine, count) in machines.items():
    row = instances.loc[machine]
    pool = {"name": "h100", "gpu": row["gpu"], "gpus_per_node": 1, "nodes": 16}
    hardware[name] = {
        "cluster.pools.h100": pool | {"price": float(row["usd/gpu/h"])},
        "deployments.chat.profile": None,  # that of the GPU and the model
        "deployments.chat.replicas": count,
    }
_, table = compared(hardware, ["ttft_p99", "tpot_p99", "slo_attainment", "usd_per_hour", "usd_per_met_request"])
table.round(4)

# %% [markdown]
# ## Where it stands
#
# Energy is that of the GPUs by their load, of the rest of the machines, and of the building; carbon that of the region's grid on
# yearly average. The same fleet, region by region:

# %%
regions = ["aws/eu-north-1", "aws/ca-central-1", "aws/eu-west-1", "aws/us-east-1", "aws/ap-south-1"]
options = {name.removeprefix("aws/"): {"energy": {"region": name}} for name in regions}
sites, emitted = compared(options, ["energy_kwh", "j_per_token", "gco2"], energy={})
hours = sites.options["eu-north-1"].records[0].end / 3600
emitted["kg CO2 a month"] = emitted["gco2"] / hours * 730 / 1000
emitted.round(2)

# %%
axes = emitted["kg CO2 a month"].sort_values().plot.barh(figsize=(7, 2.6))
axes.set(xlabel="kg CO2 a month", ylabel="", title="Four H100s at this load")
axes.figure.set_layout_engine("constrained")
plt.show()

# %% [markdown]
# What the GPUs draw was assumed here, not measured, and every result says so:

# %%
print(*sites.options["eu-north-1"].warnings, sep="\n")
