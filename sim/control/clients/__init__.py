"""What clients and proxies do with late answers and errors: back-off, retries, budgets, hedges, breakers, outlier ejection."""

from sim.control.clients.backoff import (
    AwsStandard,
    Backoff,
    Constant,
    DecorrelatedJitter,
    EnvoyJitter,
    EnvoyRateLimited,
    EqualJitter,
    Exponential,
    FullJitter,
    GrpcBackoff,
)
from sim.control.clients.breakers import CircuitBreaker, EnvoyCircuitBreaker
from sim.control.clients.budgets import AwsRetryQuota, EnvoyRetryBudget, FinagleRetryBudget, LeakyBucket
from sim.control.clients.client import Client
from sim.control.clients.grpc import GIVE_UP, NEVER, GrpcCall, GrpcRetryPolicy, RetryThrottle
from sim.control.clients.hedging import HedgedCall, HedgingPolicy
from sim.control.clients.outliers import OutlierDetection, ejection_threshold, in_panic

__all__ = [
    "GIVE_UP",
    "NEVER",
    "AwsRetryQuota",
    "AwsStandard",
    "Backoff",
    "CircuitBreaker",
    "Client",
    "Constant",
    "DecorrelatedJitter",
    "EnvoyCircuitBreaker",
    "EnvoyJitter",
    "EnvoyRateLimited",
    "EnvoyRetryBudget",
    "EqualJitter",
    "Exponential",
    "FinagleRetryBudget",
    "FullJitter",
    "GrpcBackoff",
    "GrpcCall",
    "GrpcRetryPolicy",
    "HedgedCall",
    "HedgingPolicy",
    "LeakyBucket",
    "OutlierDetection",
    "RetryThrottle",
    "ejection_threshold",
    "in_panic",
]
