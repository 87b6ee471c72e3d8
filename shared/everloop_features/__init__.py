"""The feature code, pure: loop spec -> plan -> state -> vector, the same for stream, REST and replay."""

from everloop_features.errors import FeaturesRejected
from everloop_features.plan import FeaturePlan, State, compile_features

__all__ = ["FeaturePlan", "FeaturesRejected", "State", "compile_features"]
