"""Authentication. Secrets come from the environment by name, never from the command line."""

import os
import re
from typing import Any

from attrloop.components.errors import fail
from attrloop.components.secrets import secret

FORMS = "token:VARIABLE, cookie:VARIABLE, iap:CLIENT_ID, service-account or service-account:FILE"


def credentials(auth: str) -> dict[str, Any]:
    """Arguments of the official client for a way to authenticate.

    Args:
        auth: one of
            `token:VARIABLE`: the environment variable holds a bearer token;
            `cookie:VARIABLE`: it holds the session cookie of dex or oauth2-proxy, `name=value`;
            `iap:CLIENT_ID`: OAuth client id of Google's Identity-Aware Proxy, with application default credentials;
            `service-account[:FILE]`: in a pod, the projected token of its account, read again for every request;
            "": what the client finds by itself (its environment variables, kubeconfig, the cluster it runs in).

    Raises:
        InputError: none of these, the variable or the file is missing, or what it holds cannot be sent.
    """
    kind, _, name = auth.partition(":")
    if kind in ("token", "cookie") and name:
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise fail(
                f"--auth {kind}:...",
                "what follows the colon is not the name of an environment variable",
                f"Put the {kind} into one and give its name",
            )
        if not (value := secret(name)):
            raise fail(f"--auth {auth}", f"the environment variable {name} is not set", f"export {name}=...")
        return {"existing_token" if kind == "token" else "cookies": value}
    if kind == "iap" and name:
        return {"client_id": name}
    if kind == "service-account":
        return {"credentials": _service_account(auth, name)}
    if auth:
        raise fail("--auth", "no such way to authenticate", f"Give {FORMS}")
    return {}


def _service_account(auth: str, file: str) -> Any:
    from kfp import client

    path = file or os.environ.get(client.KF_PIPELINES_SA_TOKEN_ENV) or client.KF_PIPELINES_SA_TOKEN_PATH
    if not os.path.isfile(path):
        raise fail(
            f"--auth {auth}",
            f"there is no service account token at {path}",
            "Project one into the pod (audience pipelines.kubeflow.org), or give its path",
        )
    return client.ServiceAccountTokenVolumeCredentials(path=path)
