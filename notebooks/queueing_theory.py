# %% [markdown]
# # Does the simulator do what theory says?
#
# Before a simulator is trusted with a real engine, it should get right what can be worked out by hand. A replica becomes a textbook
# server when every step takes the same time, a prompt is one token, and memory never runs out: `max_num_seqs` is then the number of
# servers, and the number of output tokens the service time, in ticks.

# %%
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from sim.control import fleet, registry
from sim.control.plan import DeploymentPlan, FleetPlan
from sim.kernel.clock import TICKS_PER_SECOND, on_grid
from sim.kernel.streams import generator
from sim.serving.settings import EngineSettings
from sim.stats import t_interval
from sim.testing.tables import constant_step_table, request_table
from sim.theory import MD1, MG1, MM1, MMc

TICK = on_grid(0.001)  # seconds of a step
SERVICE = 1000 * TICK  # mean service: about a second


def simulate(draw, rate, servers, customers=10_000, replications=16):
    """Waits and responses of each replication, after the first twelfth of the customers."""
    waits, responses = [], []
    for replication in range(replications):
        random = generator(11, replication, f"{draw.__name__}/{rate}/{servers}")
        gaps = np.round(random.exponential(1.0 / rate, customers) * TICKS_PER_SECOND) / TICKS_PER_SECOND
        ticks = np.maximum(np.rint(draw(random, customers) / TICK), 1).astype(int)
        server = DeploymentPlan(
            name="server",
            replicas=1,
            settings=EngineSettings(
                max_num_seqs=servers,
                max_num_batched_tokens=servers,
                kv_blocks=1 + 1000 * servers,
                max_model_len=1_000_000,
                block_size=1024,
            ),
            step=constant_step_table(TICK, servers, servers),
            router=lambda: registry.router("round-robin", {}, generator(0, 0, "router")),
        )
        table = request_table(np.cumsum(gaps).tolist(), [1] * customers, ticks.tolist())
        ledger = fleet.simulate(FleetPlan(table=table, deployments=[server], deployment_of=[0]))
        arrival = np.array(ledger.arrival)[customers // 12 :]
        waits.append((np.array(ledger.scheduled)[customers // 12 :] - arrival).mean())
        responses.append(np.array(ledger.end)[customers // 12 :] - arrival)
    return waits, responses


def exponential(random, count):
    return random.exponential(SERVICE, count)


def constant(random, count):
    return np.full(count, SERVICE)


def bursty(random, count):
    """Balanced hyperexponential, squared coefficient of variation 4."""
    share = 0.5 * (1 + np.sqrt(3 / 5))
    fast = random.random(count) < share
    return random.exponential(1.0, count) * np.where(fast, SERVICE / (2 * share), SERVICE / (2 * (1 - share)))


# %% [markdown]
# ## Five queues
#
# Mean wait in line, by the closed form and by simulation with its 95 % interval, which should miss about one time in twenty.

# %%
cases = {
    "M/M/1, 70 % busy": (MM1(0.7, SERVICE), exponential, 0.7, 1),
    "M/D/1, 70 % busy": (MD1(0.7, SERVICE), constant, 0.7, 1),
    "M/G/1, 60 % busy, cv² 4": (MG1(0.6, SERVICE, 4.0), bursty, 0.6, 1),
    "M/M/2, 75 % busy": (MMc(1.5, SERVICE, 2), exponential, 1.5, 2),
    "M/M/5, 75 % busy": (MMc(3.75, SERVICE, 5), exponential, 3.75, 5),
}
rows, responses = {}, {}
for name, (theory, draw, rate, servers) in cases.items():
    waits, responses[name] = simulate(draw, rate, servers)
    interval = t_interval(waits)
    assert t_interval(waits, 0.999).holds(theory.wait), name  # five looks, and still hardly ever by chance
    rows[name] = {
        "theory (s)": theory.wait,
        "simulated (s)": interval.mean,
        "± (s)": interval.half_width,
        "inside": interval.holds(theory.wait),
    }
table = pd.DataFrame.from_dict(rows, orient="index").round(3)
table

# %% [markdown]
# ## Not only the mean
#
# The whole distribution of the response time of M/M/1 is known: exponential. Each thin line is a replication.

# %%
theory = MM1(0.7, SERVICE)
times = np.linspace(0, 20, 400)
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
for sample in responses["M/M/1, 70 % busy"]:
    axes.ecdf(sample, color="tab:blue", alpha=0.25, linewidth=0.8)
axes.plot(times, 1 - np.exp(-times / theory.response), color="black", linestyle="--", label="theory")
axes.set(
    xlim=(0, 20),
    xlabel="response time (s)",
    ylabel="share of customers",
    title="M/M/1: simulated (blue) and theory",
)
axes.legend(loc="lower right")
plt.show()

# %% [markdown]
# ## And where theory ends
#
# Pool the same load in one fast server or in five slow ones: the wait in line is shorter with five, the response longer. A batching
# engine is neither: a step takes longer the more requests are in it, which is why it is simulated.

# %%
one, five = MM1(0.75, SERVICE), MMc(0.75, 5 * SERVICE, 5)
pd.DataFrame(
    {"wait (s)": [one.wait, five.wait], "response (s)": [one.response, five.response]},
    index=["one server", "five servers, a fifth as fast each"],
).round(2)
