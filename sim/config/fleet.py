"""What serves requests: models, the GPUs they run on, and how each deployment is set up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from sim.config.billing import Billing
from sim.config.gateway import Outlier, Queue
from sim.config.growth import Growth, Loss, Storage
from sim.config.policies import Admission, Autoscaler, Router
from sim.config.startup import ColdStart, Drain, WarmPool
from sim.config.values import Flag, Name, Part, Seconds, Share, checked, choice, fault, real, whole

if TYPE_CHECKING:
    from sim.catalog import Gpu

__all__ = ["Cluster", "Deployment", "Engine", "Machine", "Model", "Pool"]

MAX_LEN = 100_000_000


def _architecture(name: str) -> object:
    from sim import catalog

    return catalog.model(name)


def _instance(name: str) -> object:
    from sim import catalog

    return catalog.instance(name)


def _gpu(name: str) -> object:
    from sim import profiles

    return profiles.device(name)


def _profile(name: str) -> object:
    from sim import profiles

    # a shipped profile was checked when it was shipped; reading it takes longer than all the rest
    return name if name == profiles.ROOFLINE or name in profiles.names() else profiles.load(name)


def _dtype(name: str) -> object:
    from sim.catalog import dtype_bytes

    return dtype_bytes(name)


def _kv_dtype(name: str) -> object:
    return name if name == "auto" else _dtype(name)


class Model(Part):
    """A model that is served."""

    architecture: Annotated[str, checked(_architecture, "models")] = Field(
        description="A catalog name, a HuggingFace id, or a path to a config.json or its folder."
    )
    dtype: Annotated[str, checked(_dtype, "dtypes")] = Field(default="bf16", description="Format of the weights.")
    kv_dtype: Annotated[str, checked(_kv_dtype, "kv_dtypes")] = Field(
        default="auto", description="Format of the KV cache; auto: 16 bits."
    )
    max_model_len: Annotated[int, whole(1, MAX_LEN)] | None = Field(
        default=None, description="Longest prompt and output together. Default: the architecture's."
    )


@dataclass(frozen=True)
class Machine:
    """One node of a pool: its GPUs (by catalog name, or by the profile that describes them) and dollars an hour for all of it."""

    gpu: str
    gpus: int
    usd_per_hour: float

    @property
    def device(self) -> Gpu:
        """One of its GPUs, looked up."""
        from sim import profiles

        return profiles.device(self.gpu)

    def profile_of(self, architecture: str) -> str | None:
        """The profile that describes its GPUs, if it is of that model; else None."""
        from sim import profiles

        own = profiles.described_by_profile(self.gpu) and profiles.load(self.gpu).is_of(architecture)
        return self.gpu if own else None


class Pool(Part):
    """Equal machines: an ``instance`` of the catalog, or ``gpu``, ``gpus_per_node`` and ``price``."""

    name: Name = Field(description="What deployments call it.")
    instance: Annotated[str, checked(_instance, "instances")] | None = Field(
        default=None, description="A machine of the catalog, like aws/p5.48xlarge, with its GPUs and price."
    )
    gpu: Annotated[str, checked(_gpu, "gpus")] | None = Field(
        default=None,
        description="A GPU of the catalog, or a profile of hardware that it lacks: the hardware part of a profile file.",
    )
    gpus_per_node: Annotated[int, whole(1, 1024)] | None = Field(
        default=None, description="GPUs in a machine. Default: 1."
    )
    price: Annotated[float, real(0.0, 1e6)] | None = Field(
        default=None, description="Dollars an hour for a machine; with an instance, in place of its list price."
    )
    nodes: Annotated[int, whole(0, 100_000)] = Field(
        default=1,
        description="Machines. Without growth they are at hand at once, with all images, and paid for while they are in use.",
    )
    growth: Growth | None = Field(
        default=None, description="How the pool grows and shrinks from its nodes at the start. Default: see nodes."
    )
    zones: tuple[Name, ...] = Field(default=("a",), description="Zones that its machines are spread over, in turn.")
    placement: Annotated[Literal["pack", "spread"], choice("pack", "spread")] = Field(
        default="pack", description="Replicas on as few machines as there can be, or spread over zones, then machines."
    )
    billing: Billing | None = Field(
        default=None, description="How machines are paid. Default: on demand, by the second."
    )
    storage: Storage = Field(default_factory=Storage, description="What loads share, and what stays on a machine.")
    loss: Loss = Field(default_factory=Loss, description="How the loss of a machine is noticed.")

    @model_validator(mode="after")
    def _one_way(self) -> Pool:
        if (self.instance is None) == (self.gpu is None):
            found = "both are given" if self.gpu else "neither is given"
            raise fault(f"needs an instance of the catalog, or a gpu with gpus_per_node and price; {found}")
        if self.instance is not None and self.gpus_per_node is not None:
            raise fault("has no meaning with an instance, which brings its own", "gpus_per_node")
        if self.nodes == 0 and self.growth is None:
            raise fault("'0' is out of range without growth; allowed: from 1 to 100000", "nodes")
        if self.growth is not None and self.growth.bounds(self.nodes)[1] < self.nodes:
            raise fault(f"{self.nodes} at the start are more than growth.most, {self.growth.most}", "nodes")
        if self.gpu is not None and self.price is None:
            raise fault("needs price: dollars an hour for a machine (0 if it is not to count)")
        return self

    def machine(self) -> Machine:
        """What one node of this pool is, the catalog looked up."""
        if self.instance is None:
            return Machine(str(self.gpu), self.gpus_per_node or 1, float(self.price or 0.0))
        from sim import catalog

        found = catalog.instance(self.instance)
        return Machine(found.gpu, found.gpus, found.usd_per_hour if self.price is None else self.price)

    @property
    def gpus(self) -> int:
        """GPUs in the whole pool."""
        return self.nodes * self.machine().gpus


class Cluster(Part):
    """The machines there are."""

    pools: tuple[Pool, ...] = Field(description="Pools of equal machines.")


class Engine(Part):
    """Settings of the serving engine, by its own names; what is left out takes the engine's default for the GPU."""

    kind: Annotated[Literal["vllm"], choice("vllm")] = Field(default="vllm", description="Which engine.")
    max_num_seqs: Annotated[int, whole(1, 1_000_000)] | None = Field(
        default=None, description="Most requests in a step. Default: by GPU memory, 256 or 1024."
    )
    max_num_batched_tokens: Annotated[int, whole(1, 10_000_000)] | None = Field(
        default=None, description="Most tokens in a step. Default: by GPU memory and defaults_for, 2048 to 16384."
    )
    max_model_len: Annotated[int, whole(1, MAX_LEN)] | None = Field(
        default=None, description="Longest prompt and output together. Default: the model's."
    )
    block_size: Annotated[int, whole(1, 65_536)] = Field(default=16, description="Tokens in a KV block.")
    kv_blocks: Annotated[int, whole(2, 10**9)] | None = Field(
        default=None, description="KV blocks, block 0 (reserved) included. Default: what memory leaves."
    )
    gpu_memory_utilization: Share = Field(default=0.92, description="Share of the GPU's memory the engine may use.")
    enable_chunked_prefill: Flag = Field(default=True, description="Split prompts over steps.")
    long_prefill_token_threshold: Annotated[int, whole(0, MAX_LEN)] = Field(
        default=0, description="Most prompt tokens of one request in a step; 0: no limit."
    )
    scheduling_policy: Annotated[Literal["fcfs", "priority"], choice("fcfs", "priority")] = Field(
        default="fcfs", description="Order of the waiting queue."
    )
    scheduler_reserve_full_isl: Flag = Field(
        default=True, description="Admit a request only if its whole prompt fits in free KV blocks."
    )
    watermark: Annotated[float, real(0.0, 1.0, below=True)] = Field(
        default=0.0, description="Share of KV blocks that admission leaves free."
    )
    async_scheduling: Flag = Field(
        default=True,
        description="Form each step while the one before it runs, as vLLM does by default since 0.14: an arrival has to wait"
        " for one more step, and the GPU for none.",
    )
    defaults_for: Annotated[Literal["server", "llm"], choice("server", "llm")] = Field(
        default="server", description="Whose defaults: the API server's or the offline LLM class's."
    )
    host_overhead: Seconds | None = Field(
        default=None, description="Time a step that no kernel accounts for, in place of the profile's."
    )
    request_overhead: Seconds | None = Field(
        default=None,
        description="Time of a request outside of the engine's steps (network, HTTP, tokenising), in place of the profile's."
        " All of it passes before the engine sees the request.",
    )

    @model_validator(mode="after")
    def _as_the_engine_checks(self) -> Engine:
        tokens, sequences = self.max_num_batched_tokens, self.max_num_seqs
        if tokens is not None and sequences is not None and tokens < sequences:
            raise fault(
                f"{tokens} tokens in a step cannot serve max_num_seqs {sequences}: the engine refuses to start",
                "max_num_batched_tokens",
            )
        return self


class Deployment(Part):
    """Equal replicas of one model behind one router."""

    name: Name = Field(description="What reports and paths call it.")
    model: Name = Field(description="One of the scenario's models.")
    pool: Name = Field(description="One of the cluster's pools.")
    replicas: Annotated[int, whole(0, 100_000)] = Field(
        default=1, description="Engines side by side; with an autoscaler, those at the start."
    )
    tensor_parallel: Annotated[int, whole(1, 1024)] = Field(default=1, description="GPUs of one replica.")
    profile: Annotated[str, checked(_profile, "profiles")] | None = Field(
        default=None,
        description="Measured step times: a shipped name like h100-sxm/llama-3.1-8b/tp1, or a file. Default: the pool's, if its"
        " gpu is a profile of this model, else the shipped one for model, GPU, tensor_parallel and dtype, else one that is predicted;"
        " roofline: a predicted one even where one is shipped.",
    )
    engine: Engine = Field(default_factory=Engine, description="Engine settings.")
    router: Router = Field(default_factory=Router, description="How requests are spread over replicas.")
    autoscaler: Autoscaler | None = Field(
        default=None, description="Who changes the number of replicas. Default: nobody."
    )
    admission: tuple[Admission, ...] = Field(
        default=(), description="Who is let in: policies one behind another, all of which must."
    )
    cold_start: ColdStart = Field(default_factory=ColdStart, description="What a replica goes through until it serves.")
    warm_pool: WarmPool | None = Field(
        default=None, description="Engines that sleep until they are needed again. Default: none."
    )
    drain: Drain = Field(default_factory=Drain, description="How long a replica that is to go may go on serving.")
    queue: Queue = Field(default_factory=Queue, description="The line at the gateway.")
    outlier: Outlier | None = Field(
        default=None, description="How replicas that fail are avoided. Default: they are not."
    )
    on_loss: Annotated[Literal["fail", "retry", "migrate"], choice("fail", "retry", "migrate")] = Field(
        default="fail",
        description="What becomes of requests whose replica is lost: their client gets an error; the gateway sends them again; or"
        " another replica goes on from the tokens there are.",
    )
