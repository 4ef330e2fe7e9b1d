from __future__ import annotations

from pathlib import Path

import pytest

from headgate.errors import ContractError, NotFoundError
from headgate.settings import Settings
from headgate.topics.pipelines import load_pipelines

CONTRACT = """\
headgate: 1
pipeline: {name}
version: 1
owner: tests
sources:
  a: {{topic: t, columns: [{{name: n, type: long}}]}}
outputs:
  o: {{sql: SELECT n FROM a, to: [{{delta: o}}]}}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = tmp_path / "pipelines"
    folder.mkdir()
    (folder / "orders.yaml").write_text(CONTRACT.format(name="orders"), encoding="utf-8")
    (folder / "broken.yaml").write_text("headgate: 1\npipeline: [", encoding="utf-8")
    return Settings(home=tmp_path)


def test_a_pipeline_asked_for_by_name_is_not_held_up_by_a_broken_neighbour(settings: Settings) -> None:
    assert [item.contract.pipeline for item in load_pipelines(settings, ["orders"])] == ["orders"]


def test_without_names_every_problem_of_every_file_counts(settings: Settings) -> None:
    with pytest.raises(ContractError, match=r"broken\.yaml"):
        load_pipelines(settings)


def test_a_name_that_is_nowhere_may_be_one_in_a_file_with_problems(settings: Settings) -> None:
    with pytest.raises(ContractError, match=r"broken\.yaml"):
        load_pipelines(settings, ["order"])
    (settings.pipelines_dir / "broken.yaml").unlink()
    with pytest.raises(NotFoundError, match="did you mean `orders`"):
        load_pipelines(settings, ["order"])
