#!/bin/bash
# Runs once, in an empty database: a role and a database for headgate and for Airflow.
set -euo pipefail
for name in headgate airflow; do
    psql --username postgres --no-psqlrc --set ON_ERROR_STOP=1 \
        --set role="$name" --set password="$(cat "/run/passwords/$name")" <<'SQL'
CREATE ROLE :"role" LOGIN PASSWORD :'password';
CREATE DATABASE :"role" OWNER :"role";
SQL
done
