"""Tables made without Spark are Spark's tables too, and the other way round."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from headgate.settings import Settings
from headgate.topics.differences import Action
from headgate.topics.lake import carry_out_table
from headgate.topics.live import read_table
from headgate.topics.tables import DesiredTable, compare_table

TYPES: dict[str, Any] = {
    "id": "long",
    "at": "timestamp",
    "day": "date",
    "small": "integer",
    "price": "decimal(10,2)",
    "ok": "boolean",
    "raw": "binary",
    "tags": {"type": "array", "elementType": "string", "containsNull": True},
    "counts": {"type": "map", "keyType": "string", "valueType": "long", "valueContainsNull": True},
    "span": {
        "type": "struct",
        "fields": [{"name": "start", "type": "timestamp", "nullable": True, "metadata": {}}],
    },
}
# In a process of its own: a JVM that ends with the test, and no pyspark in the tests' process.
SPARK = """
import sys
from pathlib import Path
from headgate.contract.model import Job
from headgate.settings import Settings
from spark.session import build_session

home, ours, theirs = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
state = sys.argv[4]
settings = Settings.model_validate({"home": home, "roots": {"state": state}, "spark": {"ui": False}})
spark = build_session(settings, Job(cores=1, memory="1g"), "tables")
row = '''
  SELECT 9007199254740993L AS id, timestamp'2023-10-01 12:00:00.123456Z' AS at, date'2023-10-01' AS day,
         7 AS small, CAST(1.25 AS decimal(10,2)) AS price, true AS ok, X'00FF' AS raw,
         array('a', NULL) AS tags,
         map('k', 1L) AS counts, named_struct('start', timestamp'2023-10-01 12:00:00Z') AS span
'''
print("TYPES", spark.read.format("delta").load(ours).dtypes)
spark.sql(row).write.format("delta").mode("append").save(ours)
spark.sql(row).createOrReplaceTempView("news")
spark.sql(f'''
  MERGE INTO delta.`{ours}` AS t USING (SELECT * FROM news UNION ALL SELECT 1L, * EXCEPT (id) FROM news) AS s
  ON t.id <=> s.id WHEN MATCHED THEN UPDATE SET small = 8 WHEN NOT MATCHED THEN INSERT *
''')
spark.sql(row).write.format("delta").save(theirs)
spark.stop()
"""


@pytest.fixture
def tables(service_settings: Settings, tmp_path: Path) -> tuple[Path, Path]:
    fields = [{"name": n, "type": t, "nullable": True, "metadata": {}} for n, t in TYPES.items()]
    schema = {"type": "struct", "fields": fields}
    wanted = DesiredTable("engines", "ours", "ours", schema, key=("id",))
    (create,), _, _ = compare_table(wanted, None)
    carry_out_table(tmp_path, create)
    ours, theirs = tmp_path / "engines" / "ours", tmp_path / "theirs"
    arguments = [str(service_settings.home), str(ours), str(theirs), str(service_settings.state)]
    done = subprocess.run(
        [sys.executable, "-c", SPARK, *arguments], capture_output=True, text=True, check=False, timeout=540
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "('at', 'timestamp')" in done.stdout
    return ours, theirs


def test_spark_appends_to_and_merges_into_a_table_that_apply_made(tables: tuple[Path, Path]) -> None:
    ours, theirs = tables
    written = {row["id"]: row for row in DeltaTable(ours).to_pyarrow_table().to_pylist()}
    assert sorted(written) == [1, 2**53 + 1]
    row = written[2**53 + 1]
    assert row["at"] == datetime(2023, 10, 1, 12, 0, 0, 123456, tzinfo=UTC)
    assert (row["day"], row["price"], row["raw"]) == (date(2023, 10, 1), Decimal("1.25"), b"\x00\xff")
    assert (row["small"], row["tags"], dict(row["counts"])) == (8, ["a", None], {"k": 1})
    assert row["span"] == {"start": datetime(2023, 10, 1, 12, tzinfo=UTC)}
    # What Spark did to it, plan sees no difference in; nor would it in a table that Spark made.
    fields = [{"name": n, "type": t, "nullable": True, "metadata": {}} for n, t in TYPES.items()]
    for path in (ours, theirs):
        wanted = DesiredTable("engines", "ours", "ours", {"type": "struct", "fields": fields}, key=("id",))
        assert compare_table(wanted, read_table(path)) == ([], [], [])
    wider = DesiredTable(
        "engines", "ours", "ours", {"type": "struct", "fields": [*fields, _NEW]}, key=("id",)
    )
    (widen,), _, _ = compare_table(wider, read_table(ours))
    assert isinstance(widen, Action)
    carry_out_table(ours.parent.parent, widen)
    assert compare_table(wider, read_table(ours)) == ([], [], [])
    assert {row["new"] for row in DeltaTable(ours).to_pyarrow_table().to_pylist()} == {None}


_NEW = {"name": "new", "type": "string", "nullable": True, "metadata": {}}
