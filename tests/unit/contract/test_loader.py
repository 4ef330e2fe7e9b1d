"""Every way to break a contract gets its place, what is wrong there, and where possible the right word."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from contract_examples import ORDERS, changed, place_of

from headgate.contract.document import MAX_BYTES
from headgate.contract.loader import SPOKEN, LoadedContract, load_contract, load_contracts
from headgate.contract.schema import schema_text
from headgate.errors import ContractError, NotFoundError, Problem

COPY = "SELECT at, shop, amount FROM orders"
RULE = "amount > 0"


@dataclass(frozen=True)
class Broken:
    """`old` becomes `new`; the problem is expected at the snippet `at` with these words."""

    old: str
    new: str
    at: str
    says: str
    help: str | None = None
    expected: str | None = None


REFUNDS = """
  refunds:
    topic: refunds
    columns: [{name: at, type: timestamp}]
    rules: [{name: positive, expect: "at IS NOT NULL"}]
outputs:"""
BROKEN = [
    # keys
    Broken("sources:", "source:", "source:", "unknown key `source`", "did you mean `sources`?"),
    Broken("topic:", "topci:", "topci", "unknown key `topci`", "did you mean `topic`?"),
    Broken("{delta: per_minute}", "{dleta: per_minute}", "dleta", "unknown key `dleta`", "`delta`"),
    Broken("trigger:", "triger:", "triger", "unknown key `triger`", "did you mean `trigger`?"),
    Broken("pipeline: orders\n", "", "headgate: 1", "`pipeline` is missing"),
    Broken(", expect: ExpectColumnValuesToNotBeNull", "", "{output: per", "`expect` is missing"),
    Broken("    mode: update\n", "    mode: update\n    python: a:b\n", "sql: SELECT window", "exactly one"),
    Broken("slo:", "owner: x\nslo:", "owner: x", "duplicate key `owner`, first on line 4"),
    Broken("  copy:", "  per_minute:", "per_minute:\n    sql: \"", "duplicate key `per_minute`"),
    # values and their types
    Broken("headgate: 1", "headgate: 2", "2\npipe", "`2` is not a value of `headgate`", expected="1"),
    Broken("version: 1", "version: one", "one\n", "`version`: found `'one'`", expected="a whole number"),
    Broken("version: 1", "version: true", "true\nowner", "found `true`", expected="a whole number"),
    Broken("version: 1", "version: '1'", "'1'", "found `'1'`"),
    Broken("version: 1", "version: 1.5", "1.5", "found `1.5`"),
    Broken("version: 1", "version: 0", "0\nowner", "greater than or equal to 1"),
    Broken("version: 1", "version: " + "9" * 5000, "9" * 5000, "not a number that can be read"),
    Broken("owner: shop", "owner: [shop]", "[shop]\ns", "`owner`: found `['shop']`", expected="text"),
    Broken("owner: shop", "owner:", "owner:\n", "`owner`: found `null`", expected="text"),
    Broken("owner: shop", "owner: ''", "''\n", "at least 1 character"),
    Broken("pipeline: orders", "pipeline: Orders!", "Orders!", "`Orders!` does not fit here"),
    Broken("partitions: 2", "partitions: true", "true\n    conf", "`partitions`: found `true`"),
    Broken("    mode: update", "\tmode: update", "\tmode", "not valid YAML: a tab", expected="spaces"),
    Broken("start: earliest", "start: earlyest", "earlyest", "is not a value", "`earliest`"),
    Broken("start: earliest", "start: {timestamp: noon}", "noon", "`noon` is not a moment"),
    Broken("start: earliest", "start: {timestmap: 1}", "timestmap", "unknown key", "`timestamp`"),
    Broken("format: json", "format: jsn", "jsn", "`jsn` is not a value of `format`", "`json`"),
    Broken("type: double", "type: duble", "duble", "found `duble`; expected one of string"),
    Broken("type: double", "type: decimal(10,2)", "decimal(10", "a type with a comma is quoted"),
    Broken("type: double", "type: 'decimal(40,2)'", "'decimal", "found `decimal(40,2)`"),
    Broken("zone: UTC", "zone: Mars/Olympus", "Mars/", "`Mars/Olympus` is not a time zone"),
    Broken("type: string", "type: string, zone: UTC", "UTC}\n", "`zone` goes with timestamps"),
    Broken("otherwise: warn", "otherwise: wran", "wran", "is not a value of `otherwise`", "`warn`"),
    Broken("mode: update", "mode: upsert", "upsert", "is not a value of `mode`", expected="append, update"),
    Broken("10 minutes", "ten minutes", "ten minutes", "expected a number and a unit"),
    Broken("5 minutes}", "0 minutes}", "0 minutes}", "a duration greater than zero"),
    Broken("10 minutes", "1.5 minutes", "1.5 minutes", "a whole number of minutes: only seconds have"),
    Broken("version: 1", "version: 2147483648", "2147483648", "less than or equal to 2147483647"),
    Broken("batch: 9", "batch: 1000000001", "1000000001", "less than or equal to 1000000000"),
    Broken("redis: latest_orders", "redis: headgate:x", "- {delta: per_minute}", "are headgate's own"),
    Broken("memory: 1g", "memory: 1 GB", "1 GB", "`1 GB` does not fit", expected="such as `512m` or `2g`"),
    Broken("ratio: 0.01", "ratio: 1.5", "1.5", "less than or equal to 1"),
    Broken("ExpectColumnValuesToNotBeNull", "expect_null", "expect_null", "does not fit here"),
    # what needs two places at once
    Broken("column: at", "column: att", "att,", "there is no column `att`", "did you mean `at`?"),
    Broken("column: at", "column: amount", "amount, water", "`amount` is not a timestamp"),
    Broken("column: at", "column: at, arrival: true", "{column: at", "never both"),
    Broken("name: shop", "name: At", "At,", "column `At` is there twice"),
    Broken("name: shop", "name: _shop", "_shop, type", "names that start with `_` are headgate's"),
    Broken("name: known_shop", "name: positive", "positive, expect: \"shop", "`positive` is there twice"),
    Broken("\noutputs:", REFUNDS, "positive, expect: \"at", "`positive` is in source `orders` already"),
    Broken("\n    key: [minute]", "", "sql: SELECT window", "upserts, and on what is not said"),
    Broken("[minute]", "[minute, minute]", "[minute,", "a column is in `key` twice"),
    Broken("{delta: per_minute}", "{delta: a, redis: b}", "{delta: a,", "exactly one of `delta: TABLE`"),
    Broken("{redis: latest_orders}", "{delta: more}", "- {delta: per", "one `delta` at most"),
    Broken("delta: copies", "delta: per_minute", "[{delta: per", "belongs to output `per_minute`"),
    Broken("  copy:", "  records:", "records:", "an output cannot be named `records`"),
    Broken("output: per_minute", "output: per_minut", "per_minut,", "no output `per_minut`", "`per_minute`"),
    Broken("{delta: per_minute}", "{redis: more}", "per_minute, expect", "has no Delta table to check"),
    Broken("    options:", "    pattern: x\n    options:", "x\n", "`pattern` goes with text"),
    Broken("format: json", "format: text", "topic: orders", "columns of text come from a pattern"),
    # allow-lists
    Broken("retention.ms", "retention.m", "retention.m:", "the topic config `retention.m`", "`retention.ms`"),
    Broken("minPartitions", "minPartition", "minPartition:", "the Kafka source option", "`minPartitions`"),
    Broken("minPartitions", "kafka.group.id", "kafka.group", "not one that a contract may set"),
    Broken("minPartitions", "kafka.sasl.jaas.config", "kafka.sasl", "not one that a contract may set"),
    Broken("memory.fraction", "memory.fracton", "spark.memory", "the Spark conf", "`spark.memory.fraction`"),
    Broken("spark.memory.fraction", "spark.jars", "spark.jars", "not one that a contract may set"),
    Broken("spark.memory.fraction", "spark.sql.ansi.enabled", "spark.sql.ansi", "may set"),
    # YAML that is more than data
    Broken("owner: shop", "owner: !!python/object:os.system x", "!!python", "python/object:os.system`"),
    Broken("owner: shop", "owner: !custom x", "!custom", "YAML tag `!custom` is not accepted"),
    Broken("owner: shop", "owner: !!binary eA==", "!!binary", "binary` is not accepted"),
    Broken("owner: shop", "owner: !!set {a, b}", "!!set", "set` is not accepted"),
    Broken("owner: shop", "owner: &name shop", "&name", "anchors and aliases are not accepted"),
    Broken("owner: shop", "owner: *name", "*name", "anchors and aliases are not accepted"),
    Broken("owner: shop", "<<: {owner: shop}", "<<", "a key is not a plain word"),
    Broken("owner: shop", "? [a, b]\n: c", "[a, b]", "a key is not a plain word"),
    Broken("owner: shop", "owner: {a: b", ":\n  orders", "not valid YAML"),
    Broken("owner: shop", "\towner: shop", "\towner", "not valid YAML"),
    Broken("owner: shop", "owner: \x00", "\x00", "U+0000 is not accepted"),
    Broken("owner: shop", "owner: " + "[" * 40 + "]" * 40, "[" * 10 + "]" * 40, "nested more than 30"),
    Broken("sources:", "---\nsources:", "---", "not valid YAML"),
]  # fmt: skip

# SQL is refused at the place of the text that holds it.
SQL_BROKEN = [
    ("SELECT 1; SELECT 2", "found 2 statements"),
    ("DROP TABLE orders", "this is `DROP`, not a SELECT"),
    ("CREATE TABLE x AS SELECT at FROM orders", "this is `CREATE`, not a SELECT"),
    ("INSERT INTO orders VALUES (1)", "this is `INSERT`, not a SELECT"),
    ("SET spark.sql.ansi.enabled = true", "this is `SET`, not a SELECT"),
    ("SELECT at FROM orders UNION SELECT at FROM orders", "a set operation, not a SELECT"),
    ("SELECT at FROM ordres", "there is no source `ordres`"),
    ("SELECT 1 AS one", "reads none of the sources"),
    ("SELECT * FROM VALUES (1)", "reads none of the sources"),
    ("SELECT * FROM json.`/etc/passwd`", "is not a source"),
    ("SELECT * FROM orders WHERE shop IN (SELECT value FROM text.`/etc/passwd`)", "is not a source"),
    ("SELECT * FROM IDENTIFIER('json.`/etc/passwd`')", "the function `identifier` is not allowed"),
    ("WITH x AS (SELECT * FROM csv.`/etc/passwd`) SELECT * FROM x", "is not a source"),
    ("SELECT * FROM range(10)", "the function `range` is not allowed"),
    ("SELECT reflect('java.lang.System', 'exit', 1) FROM orders", "the function `reflect` is not allowed"),
    ("SELECT java_method('a.B', 'c') FROM orders", "the function `java_method` is not allowed"),
    ("SELECT try_reflect('a.B', 'c') FROM orders", "the function `try_reflect` is not allowed"),
    ("SELECT raise_error('x') FROM orders", "the function `raise_error` is not allowed"),
    ("SELECT input_file_name() FROM orders", "the function `input_file_name` is not allowed"),
    ("SELECT my_function(at) FROM orders", "the function `my_function` is not allowed"),
    ("SELECT rand() FROM orders", "`rand()` depends on when it runs"),
    ("SELECT random() FROM orders", "depends on when it runs"),
    ("SELECT uuid() FROM orders", "depends on when it runs"),
    ("SELECT randstr(3) FROM orders", "depends on when it runs"),
    ("SELECT uniform(0, 1) FROM orders", "depends on when it runs"),
    ("SELECT shuffle(array(1, 2)) FROM orders", "depends on when it runs"),
    ("SELECT now() FROM orders", "`now()` depends on when it runs"),
    ("SELECT current_timestamp FROM orders", "depends on when it runs"),
    ("SELECT current_timestamp() FROM orders", "depends on when it runs"),
    ("SELECT unix_timestamp() FROM orders", "depends on when it runs"),
    ("SELECT curdate() FROM orders", "depends on when it runs"),
    ("SELECT localtimestamp() FROM orders", "depends on when it runs"),
    ("SELECT current_database() FROM orders", "depends on when it runs"),
    ("SELECT session_user() FROM orders", "depends on when it runs"),
    ("SELECT CAST('now' AS TIMESTAMP) FROM orders", "`'now'` depends on when it runs"),
    ("SELECT date 'today' FROM orders", "`'today'` depends on when it runs"),
    ("SELECT * FROM orders WHERE at > 'yesterday UTC'", "`'yesterday UTC'` depends on when it runs"),
    ("SELECT at FROM orders ORDER BY at", "ORDER BY is not possible on a stream"),
    ("SELECT at FROM orders LIMIT 1", "LIMIT is not possible on a stream"),
    ("SELECT count(*) OVER (PARTITION BY shop) FROM orders", "OVER (…) is not possible on a stream"),
    ("SELECT /*+ BROADCAST(orders) */ at FROM orders", "a hint is not possible on a stream"),
    ("SELECT TRANSFORM(at) USING 'cat' AS (x) FROM orders", "TRANSFORM … USING is not possible"),
    ("SELECT at FROM orders TABLESAMPLE (10 PERCENT)", "TABLESAMPLE is not possible on a stream"),
    ("SELECT :name FROM orders", "a parameter is not possible on a stream"),
    ("WITH c AS (SELECT shop FROM orders) SELECT CAST(shop AS INT) AS i FROM c", "can fail here without"),
    ("SELECT x.amount + 1 AS i FROM orders x JOIN orders y ON x.at = y.at", "can fail here without a record"),
    ("SELECT at FROM orders WHERE amount > 1 = true", "has comparisons in a row"),
    ("SELECT rlike(shop, 'x') = true AS n FROM orders", "`shop RLIKE 'x' = TRUE` has comparisons in a row"),
    ("SELECT FROM WHERE", "not readable as Spark SQL: line 1"),
    ("SELECT at FROM", "line 1, column 14: a source is missing after `FROM`"),
    ("SELECT count(* FROM orders", "column 19: `)` is missing near `FROM`"),
    ("SELECT at a b FROM orders", "`b` is not expected here"),
    ("SELECT at FROM orders WHERE shop = 'x", "it breaks off, as where a quote is not closed"),
    ("SELECT averag(amount) FROM orders", "the function `averag` is not allowed"),
    ("SELECT " + "(" * 3000 + "1" + ")" * 3000 + " FROM orders", "nested too deeply"),
]

RULES_BROKEN = [
    ("amuont > 0", "there is no column `amuont`"),
    ("sum(amount) > 0", "aggregates are not possible"),
    ("(SELECT 1) = 1", "a rule cannot hold a subquery"),
    ("EXISTS (SELECT 1 FROM orders)", "a rule cannot hold a subquery"),
    ("SELECT true", "this is not a condition"),
    ("try_avg(amount) > 0", "aggregates are not possible"),
    ("any(amount > 0)", "aggregates are not possible"),
    ("aggregate(array(1), 0, (a, b) -> a + b) > amount", "can fail here without a record"),
    ("amount > 0 AS fine", "this is not a condition"),
    ("DROP TABLE orders", "this is not a condition"),
    ("true; false", "found 2 statements"),
    ("at < now()", "`now()` depends on when it runs"),
    ("at < timestamp 'tomorrow'", "`'tomorrow'` depends on when it runs"),
    ("reflect('a.B', 'c') = 'x'", "the function `reflect` is not allowed"),
    ("amount >", "not readable as Spark SQL: line 1, column 8: something is missing after `>`"),
    ("true = shop LIKE 'a%'", "`TRUE = shop LIKE 'a%'` has comparisons in a row"),
    ("true = shop NOT IN ('a')", "has comparisons in a row"),
    ("amount BETWEEN 1 AND 2 = true", "has comparisons in a row"),
    ("regexp_like(shop, 'a') = true", "has comparisons in a row"),
]


def problems(tmp_path: Path, text: str | bytes) -> tuple[Problem, ...]:
    path = tmp_path / "orders.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ContractError) as caught:
        load_contract(path)
    assert caught.value.exit_code == 65
    return caught.value.problems


def test_the_unbroken_contract_is_accepted(tmp_path):
    path = tmp_path / "orders.yaml"
    path.write_text(ORDERS)
    loaded = load_contract(path)
    assert isinstance(loaded, LoadedContract)
    assert loaded.contract.sources["orders"].columns[2].name == "amount"


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: f"{case.new.strip()[:40]!r}")
def test_a_broken_contract_says_where_and_what(case, tmp_path):
    text = changed(case.old, case.new)
    line, column = place_of(case.at, text)
    found = problems(tmp_path, text)
    at_place = [p for p in found if case.says in p.message]
    assert at_place, [str(p) for p in found]
    problem = at_place[0]
    assert (problem.line, problem.column) == (line, column)
    assert str(problem).startswith(f"{tmp_path / 'orders.yaml'}:{problem.line}:{problem.column}: ")
    if case.help is not None:
        assert case.help in str(problem.help)
    if case.expected is not None:
        assert case.expected in str(problem.expected)


@pytest.mark.parametrize(("sql", "says"), SQL_BROKEN, ids=lambda text: text[:50])
def test_sql_that_is_not_one_select_over_the_sources_is_refused(sql, says, tmp_path):
    text = changed(COPY, sql)
    found = problems(tmp_path, text)
    assert says in found[0].message
    assert (found[0].line, found[0].column) == place_of(f'"{sql}"', text)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("averag", "avg"),
        ("concatws", "concat_ws"),
        ("windw", "window"),
        ("dateformat", "date_format"),
        ("qqq", None),
    ],
)
def test_a_function_that_is_nearly_known_is_suggested(wrong, meant, tmp_path):
    (problem,) = problems(tmp_path, changed(COPY, f"SELECT {wrong}(shop) AS x FROM orders"))
    assert problem.help == (f"did you mean `{meant}`?" if meant else None)


@pytest.mark.parametrize(("sql", "says"), RULES_BROKEN, ids=lambda text: text[:50])
def test_a_rule_that_is_not_one_boolean_over_the_record_is_refused(sql, says, tmp_path):
    text = changed(RULE, sql)
    found = problems(tmp_path, text)
    assert says in found[0].message
    assert (found[0].line, found[0].column) == place_of(f'"{sql}"', text)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM orders WHERE shop = 'today'",
        "SELECT * FROM orders WHERE shop LIKE 'today%' OR startswith(shop, 'now')",
        "SELECT * FROM orders WHERE shop IN ('now', 'later')",
        "SELECT CASE WHEN amount > 1 THEN 'tomorrow' ELSE shop END AS s FROM orders",
        "WITH big AS (SELECT * FROM orders WHERE amount > 9) SELECT at, shop FROM big",
        "SELECT o.at, a.col AS one FROM orders o LATERAL VIEW explode(array(1, 2)) a",
        "SELECT filter(array(1, 2), x -> x > 1) AS f FROM orders",
    ],
)
def test_sql_that_looks_like_a_trap_and_is_none_is_accepted(sql, tmp_path):
    path = tmp_path / "orders.yaml"
    path.write_text(changed(COPY, sql))
    load_contract(path)


def test_a_misspelt_column_and_a_misspelt_source_get_the_right_word(tmp_path):
    assert problems(tmp_path, changed(RULE, "amuont > 0"))[0].help == "did you mean `amount`?"
    assert problems(tmp_path, changed(COPY, "SELECT at FROM ordres"))[0].help == "did you mean `orders`?"


def test_all_problems_are_told_at_once_in_the_order_of_the_file(tmp_path):
    text = changed("topic:", "topci:")
    for old, new in [("jsn", "jsn"), ("format: json", "format: jsn"), ("memory: 1g", "memory: lots")]:
        text = text.replace(old, new)
    text = changed("mode: update", "mode: upsert", text)
    text = changed("slo:", "solo:", text)
    found = problems(tmp_path, text)
    assert [(p.line, p.column) for p in found] == sorted((p.line, p.column) for p in found)
    words = ["`topic` is missing", "`topci`", "`jsn`", "`upsert`", "`solo`", "`lots`"]
    assert [word in p.message for word, p in zip(words, found, strict=True)] == [True] * 6


def test_problems_between_places_are_told_at_once_too(tmp_path):
    text = changed(COPY, "SELECT rand() FROM ordres")
    text = changed("column: at", "column: att", text)
    text = changed(RULE, "amuont > 0", text)
    text = changed("retention.ms", "retention.m", text)
    found = problems(tmp_path, text)
    assert [p.line for p in found] == [9, 16, 18, 30, 30]


def test_one_mistake_inside_a_list_is_not_told_again_of_the_list(tmp_path):
    found = problems(tmp_path, changed("ExpectColumnValuesToNotBeNull", "expect_null"))
    assert len(found) == 1


def test_problems_of_several_files_come_together_and_clashes_of_addresses_with_them(tmp_path):
    (tmp_path / "a.yaml").write_text(ORDERS)
    (tmp_path / "b.yaml").write_text(ORDERS)
    (tmp_path / "c.yml").write_text(changed("format: json", "format: jsn"))
    with pytest.raises(ContractError) as caught:
        load_contracts(tmp_path)
    messages = [(Path(p.file).name, p.message) for p in caught.value.problems]
    assert [name for name, _ in messages] == ["c.yml", "b.yaml", "b.yaml"]
    assert "pipeline `orders` belongs to" in messages[1][1]
    assert "Redis key `latest_orders` belongs to" in messages[2][1]
    assert str(caught.value).endswith("3 problems; nothing was changed.")


def test_an_unknown_pipeline_is_told_with_the_nearest_name(tmp_path):
    (tmp_path / "a.yaml").write_text(ORDERS)
    with pytest.raises(NotFoundError, match="has the pipeline `ordres`") as caught:
        load_contracts(tmp_path, only=["ordres"])
    assert (caught.value.help, caught.value.exit_code) == ("did you mean `orders`?", 4)
    assert [item.contract.pipeline for item in load_contracts(tmp_path, only=["orders"])] == ["orders"]


def test_a_file_that_is_too_big_is_not_parsed(tmp_path):
    text = ORDERS + "# " + "x" * (1 << 20) + "\n"
    (problem,) = problems(tmp_path, text)
    assert problem.message == f"the file has {len(text):,} bytes"
    assert problem.expected == f"at most {MAX_BYTES:,} bytes"


def test_a_file_that_is_not_utf_8_names_the_byte(tmp_path):
    data = ORDERS.encode()
    (problem,) = problems(tmp_path, data[:30] + b"\xff\xfe" + data[30:])
    assert problem.message == "the file is not UTF-8: byte 30"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("- headgate: 1\n", "a contract is a mapping of keys"),
        ("just words\n", "a contract is a mapping of keys"),
        ("null\n", "a contract is a mapping of keys"),
        ("{}\n", "`headgate` is missing"),
    ],
)
def test_a_file_that_is_no_mapping_says_what_a_contract_starts_with(text, says, tmp_path):
    found = problems(tmp_path, text)
    assert says in found[0].message
    assert (found[0].line, found[0].column) == (1, 1)


def test_nesting_without_end_is_a_problem_and_no_crash(tmp_path):
    text = changed("owner: shop", "owner: " + "{a: " * 5000 + "1" + "}" * 5000)
    assert len(problems(tmp_path, text)) == 1


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ContractError, match="the folder of contracts does not exist"):
        load_contracts(tmp_path / "nowhere")


def test_what_a_pattern_asks_for_is_said_in_words():
    patterns = set(re.findall(r'"pattern": ("[^\n]*")', schema_text()))
    assert {json.loads(each) for each in patterns} <= set(SPOKEN)
