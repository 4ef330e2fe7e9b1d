"""One DAG per applied contract with a quality section: `quality.<pipeline>`."""

from __future__ import annotations

from airflow.sdk import DAG

from headgate.airflow.dags import build_quality_dag
from headgate.contract.frozen import ContractStore
from headgate.settings import load_settings

settings, _ = load_settings()
for applied in ContractStore(settings.state).applied().values():
    dag: DAG | None = build_quality_dag(applied, settings)
    if dag is not None:
        globals()[dag.dag_id] = dag
