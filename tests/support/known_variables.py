"""Environment variables that the installed Prefect and MLflow read."""


def names_of_prefect() -> set[str]:
    """Every variable that the installed Prefect, prefect-redis among it, reads its settings from."""
    from prefect.settings import Settings
    from prefect.settings.base import PrefectBaseSettings
    from prefect_redis import cleanup_queue, client

    found = set()

    def collect(model: type[PrefectBaseSettings]) -> None:
        for name, field in model.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, PrefectBaseSettings):
                collect(inner)
            found.add((model.model_config["env_prefix"] + name).upper())
            choices = getattr(field.validation_alias, "choices", [])
            found.update(choice.upper() for choice in choices if isinstance(choice, str))

    for model in (Settings, client.RedisMessagingSettings, cleanup_queue.RedisWorkerCleanupQueueSettings):
        collect(model)
    return found


def names_of_mlflow() -> set[str]:
    """Every variable that the installed MLflow reads, and those that `mlflow server` takes its options from."""
    import mlflow.cli
    import mlflow.environment_variables

    variables = vars(mlflow.environment_variables).values()
    known = {variable.name for variable in variables if hasattr(variable, "name") and hasattr(variable, "get")}
    return known | {option.envvar for option in mlflow.cli.server.params if option.envvar}
