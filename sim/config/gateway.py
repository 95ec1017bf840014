"""What stands between clients and replicas: who waits where and for how long, and what clients do when they do not get an answer."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sim.config.policies import Policy
from sim.config.values import Name, Part, Period, Share, choice, whole

__all__ = ["Cascade", "Client", "Outlier", "Queue"]


class Queue(Part):
    """The line at the gateway, where requests wait while no replica can take them: none is ready, or all have their ``per_replica``."""

    limit: Annotated[int, whole(0, 10**8)] | None = Field(
        default=None, description="Most requests in line; further ones are turned away. Default: no limit."
    )
    timeout: Period = Field(
        default=600.0,
        description="Longest wait in line. Default: 10 min, the progress deadline of Knative and Kubernetes.",
    )
    order: Annotated[Literal["fifo", "priority", "fair"], choice("fifo", "priority", "fair")] = Field(
        default="fifo",
        description="Who is next: who came first; the lowest priority number; or the tenant that has had the fewest tokens"
        " (virtual token counter).",
    )
    per_replica: Annotated[int, whole(1, 10**6)] | None = Field(
        default=None,
        description="Most requests that a replica is given at a time. Default: all; they queue in the engine.",
    )


class Cascade(Part):
    """A small model first: a share of its answers is not good enough, and those requests go on to a larger one."""

    to: Name = Field(description="The deployment they go on to.")
    share: Share = Field(description="Share of the answers that are not good enough.")


class Client(Policy):
    """What a client does when an answer is late or an error. Without one it waits for as long as it takes, and never tries again."""

    family: ClassVar[str] = "client"

    kind: str = Field(default="default", description="There is one kind.", json_schema_extra={"x-names": "client"})


class Outlier(Policy):
    """Replicas that fail too often are avoided for a while."""

    family: ClassVar[str] = "outlier"

    kind: str = Field(default="envoy", description="Envoy's detection.", json_schema_extra={"x-names": "outlier"})
