"""One DAG per applied contract, started by hand: `operate.<pipeline>`, for orders that need an approval."""

from __future__ import annotations

from airflow.sdk import DAG

from headgate.airflow.dags import build_operate_dag
from headgate.contract.frozen import ContractStore
from headgate.settings import load_settings

settings, _ = load_settings()
for applied in ContractStore(settings.state).applied().values():
    dag: DAG = build_operate_dag(applied, settings)
    globals()[dag.dag_id] = dag
