"""The control plane, piece by piece: every controller can be called without a simulation, as docs/controllers.md shows.

    from sim.control import HorizontalPodAutoscaler, KpaDecider, Limiter, GradientController, RetryThrottle, queue_scores

Names are imported when first used. What two systems call alike is found in its own module only.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_NAMES: dict[str, str] = {
    "router": "FleetView Look Router",
    "routers": "LeastOutstanding LeastTokens PowerOfTwo RandomChoice RoundRobin SessionAffinity",
    "scaling.view": "Autoscaler Decision DeploymentView Knowledge ReplicaView Sample Scraper",
    "scaling.hpa": "Condition HorizontalPodAutoscaler HpaDecision",
    "scaling.hpa_adapter": "HpaScaler",
    "scaling.hpa_behavior": "Behavior ScalingPolicy ScalingRules behavior_from scale_down_rules scale_up_rules",
    "scaling.hpa_limits": (
        "Limited Recommendation ScaleEvent calculate_scale_down_limit_with_behaviors calculate_scale_up_limit"
        " calculate_scale_up_limit_with_scaling_rules convert_desired_replicas_with_behavior_rate"
        " convert_desired_replicas_with_rules get_replicas_change_per_period mark_scale_events_outdated"
        " stabilize_recommendation stabilize_recommendation_with_behaviors store_scale_event"
    ),
    "scaling.hpa_pods": "MetricsError Pod PodMetric group_pods milli quantity",
    "scaling.hpa_replicas": "Proposal ReplicaCalculator Tolerances",
    "scaling.hpa_spec": "MetricSpec Reading",
    "scaling.hpa_version": "CURRENT V2BETA2 HpaVersion",
    "scaling.keda": "Fallback Health Keda ScaledObject Trigger get_metrics_with_fallback is_active request_scale",
    "scaling.keda_adapter": "KedaScaler",
    "scaling.kpa": "KpaScaler",
    "scaling.kpa_config": "KpaConfig panic_window resolve_initial_scale resolve_metric_target",
    "scaling.kpa_decider": "DeciderSpec KpaDecider num_activators",
    "scaling.kpa_windows": "MaxTimeWindow MaxWindow TimedBuckets WeightedBuckets round_to_digits smoothing_coefficient",
    "scaling.kpa_zero": (
        "KpaReconciler PodAutoscalerStatus ScalerSpec Verdict active_threshold compute_active_condition"
        " handle_scale_to_zero proxied"
    ),
    "scaling.rayserve": (
        "DelayState RayServeConfig RayServePolicy apply_delay_logic apply_scaling_factors"
        " calculate_desired_num_replicas from_zero"
    ),
    "scaling.rayserve_scaler": "RayServeScaler",
    "scaling.rayserve_series": "aggregate_timeseries merge_instantaneous_total time_weighted_average",
    "scaling.capacity": "Capacity Model Operating Traffic capacity operating",
    "scaling.forecast": "Forecast Forecaster",
    "scaling.predictive": "PredictiveScaler",
    "scaling.schedule": "ScheduleScaler Timetable Window",
    "scaling.slo": "SloScaler",
    "scaling.oracle": "OracleScaler",
    "limits.ask": "ADMIT DROPPED REFUSE AdmissionPolicy Ask",
    "limits.token_bucket": "INF Limiter Reservation Wait every",
    "limits.envoy_bucket": "ContinuousBucket TimedBucket",
    "limits.local_ratelimit": "Descriptor LocalRateLimiter",
    "limits.gradient": "GradientController",
    "limits.netflix": "AIMDLimit ExpAvgMeasurement Gradient2Limit VegasLimit",
    "limits.windowed": "WindowedLimit tracked_rtt",
    "limits.limit": "FixedLimit",
    "limits.partitions": "PartitionedLimiter SimpleLimiter",
    "limits.gate": "Gate",
    "limits.line": "FifoLine Line PriorityLine line",
    "limits.vtc": "VirtualTokenCounter",
    "limits.policies": "ConcurrencyLimit EnvoyLocal TokenBucket",
    "limits.adaptive": "Aimd EnvoyAdaptive Gradient2 PriorityShedding Vegas",
    "clients.backoff": (
        "AwsStandard Backoff Constant DecorrelatedJitter EnvoyJitter EnvoyRateLimited EqualJitter Exponential FullJitter"
        " GrpcBackoff"
    ),
    "clients.grpc": "GIVE_UP NEVER GrpcCall GrpcRetryPolicy RetryThrottle",
    "clients.hedging": "HedgedCall HedgingPolicy",
    "clients.budgets": "AwsRetryQuota EnvoyRetryBudget FinagleRetryBudget LeakyBucket",
    "clients.breakers": "CircuitBreaker EnvoyCircuitBreaker",
    "clients.outliers": "OutlierDetection ejection_threshold in_panic",
    "clients.client": "Client",
    "routing.endpoints": "Endpoint",
    "routing.scorers": (
        "NoHitLru active_request_scores context_length_filter context_length_scores kv_cache_utilization_scores load_aware_scores"
        " lora_affinity_scores prefix_cache_scores queue_scores running_requests_size_scores session_affinity_scores"
        " token_load_scores weighted_sum"
    ),
    "routing.pickers": "MaxScorePicker effective_top_k pick_max_score pick_random pick_weighted_random",
    "routing.prefix_index": "PrefixIndex hash_prompt",
    "routing.saturation": "ConcurrencyDetector SaturationDetector",
    "routing.filters": (
        "DecisionTree default_filter least_kv_cache least_queue lora_affinity low_latency low_lora_cost low_queue"
        " sheddable_capacity"
    ),
    "routing.gateway": "Gateway",
    "routing.radix": "RadixTree",
    "routing.sglang": "CLI LIBRARY CacheAware CacheAwareConfig SglangCacheAware is_imbalanced power_of_two",
    "routing.dynamo": (
        "DynamoKv legacy_logits potential_loads select_worker softmax_probabilities softmax_sample worker_costs"
        " worker_logit"
    ),
    "routing.production_stack": (
        "HashTrie UHashRing least_inflight load_aware_score lowest_qps relative_loads route_kv_aware route_load_aware"
        " route_prefix_aware route_session"
    ),
    "routing.production_stack_routers": "ProductionStackPrefix ProductionStackSession",
    "routing.ray": (
        "LocalityRouting QueueLengthCache RayPowerOfTwo backoff_s backoff_sequence choose_candidates probe_deadline_s"
        " rank_by_locality select_replica"
    ),
    "routing.hashing": "murmur_hash2 xxhash64",
    "routing.consistent": "HashTable Maglev Rendezvous RingHash",
    "routing.bounded": "BoundedLoad bounded_capacity choose_envoy choose_on_ring haproxy_eligible haproxy_slots overload_factor",
    "routing.least_request": (
        "EnvoyLeastRequest HaproxyLeastConn NginxLeastConn WeightedLeastRequest pick_full_scan pick_n_choices"
    ),
    "routing.pools": "ByLength CheapestFirst LeastLatency PoolRouter PoolView Weighted",
}
_HOMES = {name: f"sim.control.{module}" for module, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - the names are in one place


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'sim.control' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
