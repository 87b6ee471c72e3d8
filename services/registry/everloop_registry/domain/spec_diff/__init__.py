"""What applying a loop file would do, without doing it; pure."""

from everloop_registry.domain.spec_diff.diff import LoopDiff, compare_specs
from everloop_registry.domain.spec_diff.lines import SpecLine

__all__ = ["LoopDiff", "SpecLine", "compare_specs"]
