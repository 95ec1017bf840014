# %% [markdown]
# # Reading a calibration
#
# A profile is what was measured of one model on one GPU: points, with where they come from and how far interpolating between them
# was off at points that were left out. This is what to look at before believing anything that was simulated with it.

# %%
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from sim import catalog, profiles
from sim.perf.compile import step_table
from sim.perf.roofline import predict

profile = profiles.load("rtx-pro-6000/llama-3.1-8b/tp1")
profile

# %% [markdown]
# ## Who measured, and how well is it known?
#
# Held-out errors are of points the fit had not seen. `bias`, where it is known, matters more than the median: it does not average out
# over a request. What whoever made it wants you to know, and the command that makes it again:

# %%
print(*profile.provenance.notes, profile.provenance.command, sep="\n\n")

# %% [markdown]
# ## A decode step
#
# Flat while reading the weights decides, then rising with the batch, and with what the batch has to read of its KV cache. The
# distance between the curves is the price of long contexts.

# %%
batches = np.unique([*np.geomspace(1, 256, 40).astype(int), *(2**k for k in range(9))])
steps = step_table(profile, 256, 8192)
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
for context in (128, 1024, 4096, 16384):
    times = [1e3 * steps.decode_step(int(n), int(n) * context, 0) for n in batches]
    axes.plot(batches, times, label=f"{context:,} tokens each")
axes.set(xscale="log", yscale="log", xlabel="sequences in the step", ylabel="time of a step (ms)")
axes.set_title("Decode steps, by context")
axes.set_yticks([10, 20, 50, 100, 200, 400], [10, 20, 50, 100, 200, 400], minor=False)
axes.set_xticks(marks := [1, 4, 16, 64, 256], marks)
axes.legend()
plt.show()

# %% [markdown]
# What a user of a stream sees is this time; what the owner pays for is this time over the batch. Both at once:

# %%
context = 1024
pace = np.array([steps.decode_step(int(n), int(n) * context, 0) for n in batches])
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
axes.plot(pace * 1e3, batches / pace, ".-")
for n, t in zip(batches, pace, strict=True):
    if n in (1, 16, 32, 64, 128, 256):
        axes.annotate(f"batch {n}", (t * 1e3, n / t), xytext=(6, -10), textcoords="offset points")
axes.margins(x=0.15, y=0.1)
axes.set(
    xlabel="time per output token (ms)",
    ylabel="tokens a second of one GPU",
    title="The trade that batching makes",
)
plt.show()

# %% [markdown]
# ## Another GPU, measured or predicted
#
# Where nobody has measured, twinfer predicts a profile by roofline from the GPU's peaks and the model's shape, and says how far
# such predictions were off for GPUs that had been left out of the fit. Both of one GPU, beside the one above:

# %%
kernels = step_table(profiles.load("h100-sxm/llama-3.1-8b/tp1"), 256, 8192)
roofline = predict(catalog.model("llama-3.1-8b"), catalog.gpu("h100-sxm"))
predicted = step_table(roofline, 256, 8192)
curves = (
    ("RTX PRO 6000, measured", steps),
    ("H100 SXM, from measured kernels", kernels),
    ("H100 SXM, predicted", predicted),
)
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
for name, table in curves:
    axes.plot(batches, [1e3 * table.decode_step(int(n), int(n) * 1024, 0) for n in batches], label=name)
axes.set(
    xscale="log",
    xlabel="sequences in the step",
    ylabel="time of a step (ms)",
    title="1,024 tokens of context each",
)
axes.set_xticks(marks, marks)
axes.set_ylim(bottom=0)
axes.legend()
plt.show()
print(*roofline.provenance.notes, sep="\n")

# %% [markdown]
# ## What else to ask
#
# - Is it the engine version you run? `profile.engine` says which was measured.
# - Does it hold the batch and context you will meet? Steps outside what was measured are extrapolated, and every result says how many.
# - Does it say what its own doubt is? Then `run: {calibration_doubt: true}` puts it into the intervals.

# %%
pd.Series(
    {
        "engine": profile.engine,
        "doubt": "none stated" if profile.doubt is None else profile.doubt.method,
        "host overhead": f"{profile.step.host.us:g} us a step, {profile.step.host.source}",
        "most tokens measured": steps.measured_tokens,
        "most sequences measured": steps.measured_sequences,
    }
).to_frame("")
