"""Judges one model of a search: a pure function of its task and the files in the task's folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import fmean
from typing import Any

from everloop_metrics import ERRORS
from everloop_models.batch.catalogue import catalogue
from everloop_models.batch.estimators import check_parameters
from everloop_models.errors import NOT_TOLD, ArtifactCorrupt, ModelBroken, ModelSpecInvalid, lacks_memory
from everloop_models.formats import build, format_of, online_format
from everloop_models.search.data import SearchData, read
from everloop_models.search.feature_columns import added_column, with_feature
from everloop_models.search.folds import Fold, prequential
from everloop_models.search.task import Evaluation, TrialTask
from everloop_schemas.loop_parts import ModelSpec


def evaluate_json(task: str) -> str:
    """`evaluate`, for pools whose processes are given text."""
    return evaluate(TrialTask.model_validate_json(task)).model_dump_json()


def evaluate(task: TrialTask) -> Evaluation:
    """The scores of a task's model; `failed` with the reason where it cannot be built, trained or scored.

    Raises MemoryError alone, so that a pool can say which limit it has.
    """
    started = time.monotonic()
    folds: list[Fold] = []
    is_pruned = False
    try:
        for fold in _folds(task):
            folds.append(fold)
            if is_pruned := _is_behind(task, folds):
                break
    except (ModelSpecInvalid, ModelBroken, ArtifactCorrupt) as e:
        reason = str(e) if isinstance(e, ModelSpecInvalid) else e.detail
        if lacks_memory(reason):
            raise MemoryError from e
        is_told = isinstance(e, ModelSpecInvalid) or not task.spec.personal_features
        return Evaluation.failed(reason if is_told else f"the model broke; {NOT_TOLD}", _since(started))
    except MemoryError:
        raise
    except Exception as e:  # a library raises what it likes for data or parameters that it cannot predict with
        said = NOT_TOLD if task.spec.personal_features else e
        return Evaluation.failed(f"{type(e).__name__}: {said}", _since(started))
    return _evaluation(task.metric, folds, is_pruned, _since(started))


def is_better(metric: str, score: float, other: float) -> bool:
    """Whether a score of this metric is better than another."""
    return score < other if metric in ERRORS else score > other


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)


def _folds(task: TrialTask) -> Iterator[Fold]:
    model, data = task.changed_model(), SearchData.load(task.folder)
    if model.kind == "online":
        online_format(format_of(model)).check_parameters(model, task.spec, task.field)
        rows = read(task.folder)
        if task.feature is not None:
            rows = with_feature(rows, task.spec, task.feature)
        return prequential(rows, data.rows, build(model, task.spec, task.field), task.metric)
    if model.kind == "trainer":
        raise ModelSpecInvalid(f"{task.field}.trainer", "a model that is trained elsewhere cannot be tried here")
    _check_batch(model, task)
    from everloop_models.search.cross_validation import cross_validate

    added = None
    if task.feature is not None:
        added = added_column(read(task.folder), data.rows, task.spec, task.feature)
    return cross_validate(data, model, task.metric, added)


def _check_batch(model: ModelSpec, task: TrialTask) -> None:
    entry = catalogue().get(model.estimator or "")
    if entry is None:
        raise ModelSpecInvalid(f"{task.field}.estimator", f"{model.estimator} is not known")
    check_parameters(model, entry, task.field)


def _is_behind(task: TrialTask, folds: list[Fold]) -> bool:
    """Whether the mean of the folds so far is worse than what the task requires after so many."""
    place = len(folds) - 1
    threshold = task.thresholds[place] if place < len(task.thresholds) else None
    return threshold is not None and is_better(task.metric, threshold, fmean(fold.score for fold in folds))


def _evaluation(metric: str, folds: list[Fold], is_pruned: bool, seconds: float) -> Evaluation:
    if not folds:
        return Evaluation.failed(f"{metric} is undefined in every fold of these rows", seconds)
    score = fmean(fold.score for fold in folds)
    trained: list[float] = [fold.train_score for fold in folds if fold.train_score is not None]
    found: dict[str, Any] = {"folds": [fold.score for fold in folds], "score": score, "seconds": seconds}
    if len(trained) == len(folds):
        train_score = fmean(trained)
        gap = score - train_score if metric in ERRORS else train_score - score
        found |= {"train_folds": trained, "train_score": train_score, "gap": gap}
    try:
        return Evaluation(state="pruned" if is_pruned else "complete", **found)
    except ValueError:
        return Evaluation.failed(f"{metric} is not finite", seconds)
