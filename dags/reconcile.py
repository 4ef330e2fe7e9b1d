"""`headgate.reconcile`: the sweep that runs once a minute."""

from __future__ import annotations

from airflow.sdk import DAG

from headgate.airflow.dags import build_reconcile_dag
from headgate.settings import load_settings

settings, _ = load_settings()
dag: DAG = build_reconcile_dag(settings)
