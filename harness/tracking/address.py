"""Addresses of MLflow: whether one can be used here, and how it may be shown.

A password in one is never printed or stored.
"""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from urllib.parse import unquote, urlsplit

from harness.errors import UserError

SERVERS = ("http", "https")
DATABASES = ("postgresql", "mysql", "mssql", "sqlite")
DATABRICKS = ("databricks", "databricks-uc", "uc")
"""What MLflow itself opens (mlflow.tracking._tracking_service.utils); plugins add to it."""

DRIVERS = {
    "psycopg": "'optbench[cluster]'",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
}
"""What to install for a module that is not a package of its own name."""

# Up to the last @ of the word: a password that nobody encoded may hold an @ or a slash itself.
_IN_FRONT_OF_HOST = re.compile(r"://(?!/)[^\s'\"<>]*@")
_IN_QUERY = re.compile(r"([?&][\w.-]*(?:password|passwd|pwd|token|secret)[\w.-]*=)[^&\s'\"]+", re.I)
SHORTEST_SECRET = 4
"""A password of fewer characters is not looked for in running text: it would be in many words."""


def check_address(tracking_uri: str) -> None:
    """Refuses what can never be written from here, without asking anybody on the network.

    Raises:
        UserError: MLflow knows no such address, or the driver of the database is not installed.
    """
    got = f"the tracking address {without_password(tracking_uri)!r}"
    scheme = tracking_uri.partition(":")[0]
    if scheme in SERVERS:
        try:
            parts = urlsplit(tracking_uri)
            found = parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:
            found = False
        if not found:
            raise UserError(f"{got} names no server: write http://HOST:PORT")
    elif scheme.partition("+")[0] in DATABASES:
        _check_database(tracking_uri, got)
    elif scheme not in DATABRICKS and not entry_points(group="mlflow.tracking_store", name=scheme):
        raise UserError(
            f"{got} is none that MLflow can write: use a server (http://HOST:PORT, https://HOST) "
            "or a database (postgresql://USER@HOST/NAME, sqlite:////FOLDER/mlflow.db)"
        )


def _check_database(tracking_uri: str, got: str) -> None:
    """SQLAlchemy knows which driver stands behind an address, which differs between versions."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(tracking_uri).get_dialect().import_dbapi()
    except ModuleNotFoundError as error:
        module = str(error.name)
        package = DRIVERS.get(module, module)
        raise UserError(
            f"{got} needs the driver {module}, which is not installed here: pip install {package}"
        ) from None
    except (ArgumentError, ImportError, ValueError) as error:
        reason = without_password(str(error).splitlines()[0], tracking_uri)
        raise UserError(f"{got} cannot be used: {reason}") from None


def without_password(text: str, tracking_uri: str | None = None) -> str:
    """The text with `***` for the user and the password of every address in it.

    Args:
        tracking_uri: its password is hidden wherever it stands, also outside of an address.
    """
    text = _IN_QUERY.sub(r"\1***", _IN_FRONT_OF_HOST.sub("://***@", text))
    for secret in _secrets(tracking_uri or ""):
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text


def _secrets(tracking_uri: str) -> set[str]:
    try:
        password = urlsplit(tracking_uri).password or ""
    except ValueError:  # no address at all
        return set()
    return {password, unquote(password)}
