"""Computes features, pure: loop spec -> plan -> state -> vector, the same for the stream, REST and replay."""

from everloop_features.cost import EVENT_BUDGET_US, event_costs
from everloop_features.errors import FeaturesRejected
from everloop_features.plan import FeaturePlan, State, compile_features

__all__ = ["EVENT_BUDGET_US", "FeaturePlan", "FeaturesRejected", "State", "compile_features", "event_costs"]
