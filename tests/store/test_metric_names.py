"""Metrics of columns with any name arrive in MLflow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.store.metric_names import metric_name


@pytest.mark.parametrize("name", ["accuracy", "compressed/onnxruntime/rmse", "drift/input/Größe in m", "a.b-c d:e_f"])
def test_what_mlflow_takes_stays_what_it_is(name):
    assert metric_name(name) == name


@given(st.text())
def test_mlflow_takes_every_column_s_name(column):
    from mlflow.utils.validation import _validate_metric_name

    _validate_metric_name(metric_name(f"drift/input/{column}"))


def test_they_arrive(store):
    from tasks.store import tracking

    run = tracking.start_run("names", {}, {})
    tracking.log_metrics(run, {"drift/age (years)": 1.0, "drift/../price, €//": 2.0, f"drift/{'x' * 300}": 3.0})
    metrics = tracking.client().get_run(run).data.metrics
    assert metrics == {"drift/age _years_": 1.0, "drift/price_ _": 2.0, f"drift/{'x' * 244}": 3.0}
