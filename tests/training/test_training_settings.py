"""Settings of the training service that are checked when it starts."""

from __future__ import annotations

import pytest

from everloop_training.settings import TrainingSettings


@pytest.mark.parametrize("address", ["", "auto", "ray://head:10001", "ray://[::1]:10001", "ray://head"])
def test_the_address_of_ray_is_auto_or_that_of_a_cluster(address: str) -> None:
    assert TrainingSettings(ray=address).ray == address


@pytest.mark.parametrize("address", ["head:10001", "ray://", "ray://head:port", "http://head:8265", "ray://head/x"])
def test_another_address_of_ray_is_refused_with_the_form_that_it_must_have(address: str) -> None:
    with pytest.raises(ValueError, match="must be auto, ray://host:port"):
        TrainingSettings(ray=address)
