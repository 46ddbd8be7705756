"""Rights in the Kubernetes API: each account has those that Kubeflow needs, and no more."""

from collections.abc import Iterator

from attrloop.components.errors import Problem
from manifests.check.build import Document, name_of, of_kind

RUNS = "attrloop-runs"
_PART_OF, _PROFILE = "app.kubernetes.io/part-of", "kubeflow-profile"
# API group, resource, name, verb. The first three are what Kubeflow's launcher and driver ask for in 2.17
# (backend/src/v2: config/env.go, objectstore/object_store.go, component/launcher_v2.go), the others what Argo's
# executor does.
_STEP = {
    ("", "configmaps", "kfp-launcher", "get"),
    ("", "secrets", "mlpipeline-minio-artifact", "get"),
    ("", "pods", "", "get"),
    ("argoproj.io", "workflowtaskresults", "", "create"),
    ("argoproj.io", "workflowtaskresults", "", "patch"),
}


def narrow_rights(documents: list[Document]) -> Iterator[Problem]:
    """No role has a wildcard or rights on secrets that it does not name; no binding is to a role from elsewhere."""
    for role in of_kind(documents, "Role", "ClusterRole"):
        for rule in role.get("rules") or []:
            if any("*" in value for values in rule.values() for value in values):
                yield Problem(name_of(role), "a wildcard", "Name what is needed")
            if "secrets" in rule.get("resources", []) and (rule["verbs"] != ["get"] or not rule.get("resourceNames")):
                yield Problem(
                    name_of(role),
                    "rights on all secrets",
                    "Mount the secret that is needed, or allow to get it by name",
                )
    for binding in of_kind(documents, "RoleBinding", "ClusterRoleBinding"):
        ref, namespace = binding["roleRef"], binding["metadata"].get("namespace")
        if not any(
            (role["kind"], role["metadata"]["name"], role["metadata"].get("namespace"))
            == (ref["kind"], ref["name"], namespace)
            for role in documents
        ):
            yield Problem(
                name_of(binding),
                f"binds {ref['kind']} {ref['name']}, which is not in the manifests",
                "Bind a role of its own namespace",
            )


def steps_rights(documents: list[Document]) -> Iterator[Problem]:
    """Accounts of steps may do what Kubeflow's launcher and Argo's executor do on their behalf, and nothing else."""
    for account in of_kind(documents, "ServiceAccount"):
        name, namespace = account["metadata"]["name"], account["metadata"]["namespace"]
        if namespace != RUNS or name == "submitter":
            continue
        has = rights(documents, name)
        for missing in sorted(_STEP - has):
            yield Problem(
                name_of(account),
                f"may not {missing[3]} {' '.join(filter(None, missing[1:3]))}, as Kubeflow does on its behalf",
                "Allow it in the role step",
            )
        for more in sorted(has - _STEP):
            yield Problem(
                name_of(account),
                f"may {more[3]} {' '.join(filter(None, more[1:3]))}, which no step needs",
                "Leave it out of the role step",
            )


def rights(documents: list[Document], account: str) -> set[tuple[str, str, str, str]]:
    """What an account of the runs' namespace may do there: API group, resource, name ("" for every one), verb."""
    subject = {"kind": "ServiceAccount", "name": account, "namespace": RUNS}
    bound = {
        one["roleRef"]["name"]
        for one in of_kind(documents, "RoleBinding")
        if one["metadata"]["namespace"] == RUNS and subject in one["subjects"]
    }
    return {
        (group, resource, name, verb)
        for role in of_kind(documents, "Role")
        if role["metadata"]["namespace"] == RUNS and role["metadata"]["name"] in bound
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }


def known_to_kubeflow(documents: list[Document]) -> Iterator[Problem]:
    """The runs' namespace has the label of a Kubeflow profile.

    The network policy of Kubeflow's object store admits steps by that label.
    """
    for one in of_kind(documents, "Namespace"):
        if one["metadata"]["name"] == RUNS and one["metadata"].get("labels", {}).get(_PART_OF) != _PROFILE:
            yield Problem(
                name_of(one),
                f"is not labelled {_PART_OF}: {_PROFILE}",
                "Set the label in namespaces.yaml, and let no transformer replace it",
            )
