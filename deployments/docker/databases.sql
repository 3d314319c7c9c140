-- Run once, by PostgreSQL's image, when its volume is empty: a role and a database for each server.
-- MLflow's users have a database of their own, so that a backup of the runs holds no password hashes.
\set ON_ERROR_STOP on
\set prefect_password `cat /run/secrets/postgres_prefect`
\set mlflow_password `cat /run/secrets/postgres_mlflow`
CREATE ROLE prefect LOGIN PASSWORD :'prefect_password';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE prefect OWNER prefect;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
REVOKE CONNECT ON DATABASE prefect, mlflow, mlflow_auth FROM PUBLIC;
