"""Components of Kubeflow Pipelines for the steps of an Everloop loop."""

from everloop_kfp.components import apply_loop, backfill, export_data_set, promote, retrain, submit_model
from everloop_kfp.reach import reach
from everloop_kfp.waiting import wait_for_promotion, wait_for_run

__all__ = [
    "apply_loop",
    "backfill",
    "export_data_set",
    "promote",
    "reach",
    "retrain",
    "submit_model",
    "wait_for_promotion",
    "wait_for_run",
]
