"""Which estimators of batch lines the operator allows: the setting EVERLOOP_TRAINING_ALLOW."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated

from pydantic import AfterValidator, Field

from everloop_shared.settings import StoreSettings

EXTRAS = {"sklearn": "sklearn", "xgboost": "boosting", "lightgbm": "boosting"}
"""The libraries of batch lines, and the extra of `everloop` that installs each."""
NEEDED = {
    "sklearn": ("sklearn", "skl2onnx"),
    "xgboost": ("sklearn", "skl2onnx", "onnxmltools", "xgboost"),
    "lightgbm": ("sklearn", "skl2onnx", "onnxmltools", "lightgbm"),
}
"""The packages that a library's lines need: it, and the converters to ONNX."""
RECORDED = {
    "sklearn": ("scikit-learn", "skl2onnx", "onnx", "numpy"),
    "xgboost": ("xgboost-cpu", "scikit-learn", "skl2onnx", "onnxmltools", "onnx", "numpy"),
    "lightgbm": ("lightgbm", "scikit-learn", "skl2onnx", "onnxmltools", "onnx", "numpy"),
}
"""By library, the distributions whose versions the file of a model records."""
NOTHING = "none"
_ENTRY = re.compile(r"(sklearn|xgboost|lightgbm)(\.[a-z_]+)*(\.[A-Z][A-Za-z0-9]*)?")


def _entries(value: str) -> str:
    for entry in value.split(","):
        if entry.strip() and entry.strip() != NOTHING and not _ENTRY.fullmatch(entry.strip()):
            raise ValueError(
                "each entry must be sklearn, xgboost, lightgbm, or the beginning of a path of one, such as "
                "sklearn.ensemble or lightgbm.LGBMClassifier; or none"
            )
    return value


class BatchSettings(StoreSettings):
    """The setting that training and registry share."""

    training_allow: Annotated[str, AfterValidator(_entries)] = Field(
        "",
        description="EVERLOOP_TRAINING_ALLOW: estimators that batch lines may name, by the beginnings of their paths, "
        "separated by commas; none: no batch lines; default: what is installed here of sklearn, xgboost and lightgbm",
    )


@dataclass(frozen=True)
class AllowedEstimators:
    """The beginnings of the paths that batch lines may name; empty with `named` false: what is installed here."""

    entries: tuple[str, ...] = ()
    named: bool = False

    @classmethod
    def of(cls, setting: str) -> AllowedEstimators:
        """As the setting says."""
        entries = tuple(entry.strip() for entry in setting.split(",") if entry.strip())
        return cls(tuple(entry for entry in entries if entry != NOTHING), named=bool(entries))

    def refusal(self, estimator: str) -> str | None:
        """Why this estimator may not be named, None where it may be."""
        library = estimator.partition(".")[0]
        if self.named:
            if any(estimator == entry or estimator.startswith(f"{entry}.") for entry in self.entries):
                return None
            allowed = f"it allows {', '.join(self.entries)}" if self.entries else "it allows no batch lines"
            return f"{estimator} is not allowed here by EVERLOOP_TRAINING_ALLOW: {allowed}"
        missing = [name for name in NEEDED[library] if find_spec(name) is None]
        if missing:
            install = f"pip install 'everloop[{EXTRAS[library]}]'"
            return f"{estimator} needs {', '.join(missing)}, not installed here; install with: {install}"
        return None
