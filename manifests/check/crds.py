"""The custom resources that the manifests use, with the fields that they set and no others.

An unknown field is an error, as in the API server's strict validation. The fields are those of Kueue (v1beta2), GKE's
ComputeClass (v1), the External Secrets Operator (v1) and the Prometheus Operator (v1).
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model, model_validator
from pydantic.alias_generators import to_camel

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
Duration = Annotated[str, Field(pattern=r"^([0-9]+(ms|s|m|h))+$")]
Quantity = int | Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class Metadata(Strict):
    name: Name
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Namespaced(Metadata):
    namespace: Name


class Labels(Strict):
    match_labels: dict[str, str] = Field(min_length=1)


class FlavorSpec(Strict):
    node_labels: dict[str, str] = Field(min_length=1)


class FlavorQuota(Strict):
    name: str
    nominal_quota: Quantity


class QueueFlavor(Strict):
    name: Name
    resources: list[FlavorQuota]


class ResourceGroup(Strict):
    covered_resources: list[str] = Field(min_length=1)
    flavors: list[QueueFlavor] = Field(min_length=1)

    @model_validator(mode="after")
    def _covered(self) -> "ResourceGroup":
        for flavor in self.flavors:
            if [quota.name for quota in flavor.resources] != self.covered_resources:  # Kueue refuses another order too
                raise ValueError(f"flavor {flavor.name} must state {', '.join(self.covered_resources)}, in this order")
        return self


class Preemption(Strict):
    within_cluster_queue: Literal["Never", "LowerPriority", "LowerOrNewerEqualPriority"]


class ClusterQueueSpec(Strict):
    namespace_selector: Labels
    queueing_strategy: Literal["StrictFIFO", "BestEffortFIFO"]
    resource_groups: list[ResourceGroup] = Field(min_length=1)
    preemption: Preemption


class LocalQueueSpec(Strict):
    cluster_queue: Name


class Gpu(Strict):
    type: Literal["nvidia-l4", "nvidia-tesla-a100", "nvidia-a100-80gb", "nvidia-h100-80gb"]
    count: int = Field(gt=0)


class NamedReservation(Strict):
    name: Name
    project: str


class Reservations(Strict):
    affinity: Literal["Specific"]  # AnyBestEffort takes on-demand nodes before GKE looks at the other priorities
    specific: list[NamedReservation] = Field(min_length=1)


class Switch(Strict):
    enabled: bool


class Storage(Strict):
    local_ssd_count: int = Field(gt=0, alias="localSSDCount")


class Priority(Strict):
    machine_family: str | None = None
    machine_type: str | None = None
    gpu: Gpu
    storage: Storage | None = None
    reservations: Reservations | None = None
    flex_start: Switch | None = None
    spot: bool | None = None

    @model_validator(mode="after")
    def _one(self) -> "Priority":
        if (self.machine_family is None) == (self.machine_type is None):
            raise ValueError("exactly one of machineFamily and machineType")
        if [self.reservations, self.flex_start, self.spot].count(None) != 2:
            raise ValueError("exactly one of reservations, flexStart and spot says how GKE gets the node")
        return self


class Autoscaling(Strict):
    consolidation_delay_minutes: int = Field(ge=1, le=1440)


class ComputeClassSpec(Strict):
    priorities: list[Priority] = Field(min_length=1)
    node_pool_auto_creation: Switch
    autoscaling_policy: Autoscaling | None = None
    when_unsatisfiable: Literal["DoNotScaleUp", "ScaleUpAnyway"]


class Ref(Strict):
    name: Name


class WorkloadIdentity(Strict):
    cluster_location: str
    cluster_name: str
    service_account_ref: Ref


class SecretManagerAuth(Strict):
    workload_identity: WorkloadIdentity  # the operator knows keys in secrets as well: not here


class SecretManager(Strict):
    project_id: str = Field(alias="projectID")
    auth: SecretManagerAuth


class Provider(Strict):
    gcpsm: SecretManager


class SecretStoreSpec(Strict):
    provider: Provider


class StoreRef(Strict):
    kind: Literal["SecretStore"]
    name: Name


class RemoteRef(Strict):
    key: str


class SecretData(Strict):
    secret_key: str
    remote_ref: RemoteRef


class ExternalSecretSpec(Strict):
    refresh_interval: Duration
    secret_store_ref: StoreRef
    target: Ref
    data: list[SecretData] = Field(min_length=1)


class Endpoint(Strict):
    port: str
    path: str = Field(pattern="^/")
    interval: Duration


class ServiceMonitorSpec(Strict):
    selector: Labels
    endpoints: list[Endpoint] = Field(min_length=1)


def _balanced(expression: str) -> str:
    open_, pairs = [], {")": "(", "]": "[", "}": "{"}
    for letter in expression:
        if letter in pairs.values():
            open_.append(letter)
        elif letter in pairs and (not open_ or open_.pop() != pairs[letter]):
            raise ValueError(f"unbalanced {letter!r}")
    if open_:
        raise ValueError(f"unbalanced {open_[-1]!r}")
    return expression


class Alert(Strict):
    alert: str = Field(pattern="^[A-Z][A-Za-z]+$")
    expr: Annotated[str, Field(min_length=1), AfterValidator(_balanced)]
    for_: Duration = Field(alias="for")
    labels: dict[str, str]
    annotations: dict[str, str]


class RuleGroup(Strict):
    name: str
    rules: list[Alert] = Field(min_length=1)


class PrometheusRuleSpec(Strict):
    groups: list[RuleGroup] = Field(min_length=1)


def _resource(api_version: str, kind: str, metadata: type[Metadata], spec: type[Strict]) -> type[Strict]:
    fields: dict[str, Any] = {
        "api_version": (Literal[api_version], ...),
        "kind": (Literal[kind], ...),
        "metadata": (metadata, ...),
        "spec": (spec, ...),
    }
    return create_model(kind, __base__=Strict, **fields)


RESOURCES = {
    (api_version, kind): _resource(api_version, kind, metadata, spec)
    for api_version, kind, metadata, spec in (
        ("kueue.x-k8s.io/v1beta2", "ResourceFlavor", Metadata, FlavorSpec),
        ("kueue.x-k8s.io/v1beta2", "ClusterQueue", Metadata, ClusterQueueSpec),
        ("kueue.x-k8s.io/v1beta2", "LocalQueue", Namespaced, LocalQueueSpec),
        ("cloud.google.com/v1", "ComputeClass", Metadata, ComputeClassSpec),
        ("external-secrets.io/v1", "SecretStore", Namespaced, SecretStoreSpec),
        ("external-secrets.io/v1", "ExternalSecret", Namespaced, ExternalSecretSpec),
        ("monitoring.coreos.com/v1", "ServiceMonitor", Namespaced, ServiceMonitorSpec),
        ("monitoring.coreos.com/v1", "PrometheusRule", Namespaced, PrometheusRuleSpec),
    )
}
