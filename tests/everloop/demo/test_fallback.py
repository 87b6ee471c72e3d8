"""The demo leaves Kafka for the memory bus only where no broker can be had."""

from __future__ import annotations

import pytest

from everloop.demo.bus import why_no_kafka
from everloop.local.errors import FolderNotWritable, JavaNotFound, KafkaNotFetched


def _works() -> None:
    return None


def _fails(error: Exception) -> None:
    raise error


def test_where_kafka_can_be_had_the_demo_runs_on_it() -> None:
    assert why_no_kafka(_works, _works) is None


def test_without_packages_or_java_the_reason_is_told() -> None:
    offline = why_no_kafka(lambda: _fails(KafkaNotFetched("no registry answers", "fetch it")), _works)
    no_java = why_no_kafka(_works, lambda: _fails(JavaNotFound("no Java runs here", "install it")))

    assert (offline, no_java) == ("no registry answers", "no Java runs here")


def test_what_a_person_can_mend_is_no_reason_to_do_without() -> None:
    with pytest.raises(FolderNotWritable):
        why_no_kafka(lambda: _fails(FolderNotWritable("the disk is full", "make room")), _works)
