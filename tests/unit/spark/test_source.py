from __future__ import annotations

import json

from headgate.contract.model import Source
from spark.source import _start

SOURCE = Source.model_validate({"topic": "t", "start": "latest"})


def test_a_lineage_with_an_origin_begins_at_its_offsets_whatever_the_contract_says():
    found = _start(SOURCE, "t", {"t": {1: -2, 0: 7}})
    assert json.loads(found["startingOffsets"]) == {"t": {"0": 7, "1": -2}}


def test_a_topic_without_offsets_begins_where_the_contract_says():
    assert _start(SOURCE, "t", {}) == {"startingOffsets": "latest"}
    assert _start(SOURCE, "t", {"other": {0: 1}}) == {"startingOffsets": "latest"}
