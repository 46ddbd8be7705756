"""Who is champion: the ledger says so, and MLflow's alias shows it."""

from typing import TYPE_CHECKING

from attrloop.components.promote.ledger import Entry
from attrloop.components.tracking.names import CHAMPION

if TYPE_CHECKING:
    from mlflow import MlflowClient


def alias(client: "MlflowClient", name: str) -> str | None:
    """The version that carries the alias `champion` in MLflow; None for none."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(name, CHAMPION).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def champion(client: "MlflowClient", name: str, head: Entry | None) -> str | None:
    """The champion's version.

    Args:
        client: an MLflow client.
        name: name of the registered model.
        head: the latest entry of the ledger. Without one, the alias counts: it was set by hand, or from elsewhere.
    """
    return head.after if head else alias(client, name)


def exists(client: "MlflowClient", name: str, version: str) -> bool:
    """Whether a version is registered."""
    query = f"name = '{name}' and version_number = '{version}'"
    return version.isdigit() and bool(client.search_model_versions(query))
