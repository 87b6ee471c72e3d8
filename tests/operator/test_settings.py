"""Settings are read from the environment, and wrong ones are named."""

from __future__ import annotations

import pytest

from everloop_operator.errors import OperatorMisconfigured
from everloop_operator.settings import OperatorSettings


def test_namespaces_are_named_by_commas_and_none_means_all() -> None:
    some = OperatorSettings.load({"EVERLOOP_OPERATOR_NAMESPACES": "shop, bank"})

    assert some.named_namespaces == ["shop", "bank"]
    assert OperatorSettings.load({}).named_namespaces == []


def test_a_wrong_setting_is_named_with_its_value() -> None:
    with pytest.raises(OperatorMisconfigured) as told:
        OperatorSettings.load({"EVERLOOP_OPERATOR_POLL_S": "often"})

    assert "EVERLOOP_OPERATOR_POLL_S: " in str(told.value)
    assert "'often'" in str(told.value)
