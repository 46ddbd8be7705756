"""What steps ask of a cluster: accelerators, memory, nodes, secrets, retries. The local runner ignores all of it.

What Kubeflow accepts at run time is a parameter of the pipeline; what it accepts only at compilation is in `Cluster`.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from kfp import kubernetes

from attrloop.pipelines.definitions.cluster import Cluster

MODELS = "/models"  # where the volume of base models is mounted
# Size of /dev/shm, part of the pod's memory. Kubernetes gives 64 MiB, too little for processes that exchange tensors.
_SHARED_MEMORY = "8Gi"
_L4, _A100 = ({"cloud.google.com/compute-class": f"attrloop-{name}"} for name in ("l4", "a100"))
STEPS = {  # nodes, cores, memory: the reasons are in docs/gpu-pools.md
    "sft": (_A100, "8", "48Gi"),
    "sample": (_L4, "6", "24Gi"),
    "dpo": (_A100, "8", "48Gi"),
    "evaluate": (_L4, "6", "24Gi"),
    "predict": (_L4, "6", "24Gi"),
}
_TOLERATIONS = [
    {"key": key, "operator": "Exists", "effect": "NoSchedule"}
    for key in ("nvidia.com/gpu", "cloud.google.com/gke-spot")
]
_SECRETS = {
    "annotation": "the annotator's key (OPENAI_API_KEY)",
    "hub": "a token for gated base models (HF_TOKEN)",
    "tracking": "MLflow's MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a pipeline: its default, whose type is the parameter's, and its description."""

    default: Any
    about: str


def parameters(steps: tuple[str, ...], secrets: tuple[str, ...]) -> dict[str, Parameter]:
    """The parameters by name of a pipeline that has these steps and uses these secrets.

    Kubeflow sorts parameters by name, so names of what belongs together begin alike.
    """
    found = {
        "cpu_cores": Parameter("2", "Cores of each step that uses no accelerator."),
        "cpu_memory": Parameter("8Gi", "Memory of each step that uses no accelerator."),
        "gpu_tolerations": Parameter(_TOLERATIONS, "Taints that pods with accelerators tolerate (JSON list)."),
        "gpu_type": Parameter(
            "nvidia.com/gpu", "Kubernetes resource name of the accelerator; the nodes decide which model it is."
        ),
    }
    for step in steps:
        nodes, cores, memory = STEPS[step]
        shared = "; they share each batch" if step in ("sft", "dpo") else "; only one is used"
        found[f"gpu_{step}_count"] = Parameter("1", f"Accelerators of a pod of {step}{shared}.")
        found[f"gpu_{step}_cpu"] = Parameter(cores, f"Cores of a pod of {step}.")
        found[f"gpu_{step}_memory"] = Parameter(memory, f"Memory of a pod of {step}, including /dev/shm.")
        about = (
            f"Node selector (JSON) of {step}: a compute class or node pool; add cloud.google.com/gke-spot: 'true' for "
            "spot nodes; {} for any node."
        )
        found[f"gpu_{step}_nodes"] = Parameter(nodes, about)
    return found | {
        f"secret_{name}": Parameter(name, f"Name of the Kubernetes secret with {_SECRETS[name]}; it may be missing.")
        for name in secrets
    }


@dataclass(frozen=True)
class Resources:
    """The parameters of `parameters` inside a pipeline, and what is done with them.

    Attributes:
        cluster: where the pipeline will run.
        values: KFP's placeholders by parameter name.
    """

    cluster: Cluster
    values: dict[str, Any] = field(default_factory=dict)

    def handed_on(self, pipeline: Any) -> dict[str, Any]:
        """The parameters that an inner pipeline takes, to call it with."""
        return {name: value for name, value in self.values.items() if name in pipeline.component_spec.inputs}

    def gpu(self, step: str, *tasks: Any, tracking: bool = False) -> None:
        """Gives tasks the accelerators of a step.

        Args:
            step: a key of `STEPS`.
            tasks: the tasks.
            tracking: whether they get MLflow's secret.
        """
        values, cluster = self.values, self.cluster
        count, nodes = values[f"gpu_{step}_count"], values[f"gpu_{step}_nodes"]
        for task in tasks:
            self._sized(task, values[f"gpu_{step}_cpu"], values[f"gpu_{step}_memory"], values["gpu_type"], count)
            self._retried(task)
            task.set_accelerator_type(values["gpu_type"]).set_accelerator_limit(count)
            kubernetes.add_node_selector_json(task, nodes)
            kubernetes.add_toleration_json(task, values["gpu_tolerations"])
            kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", "Memory", _SHARED_MEMORY)
            self._models(task)
            if tracking:
                self._tracking(task)
            if cluster.queue:
                kubernetes.add_pod_label(task, "kueue.x-k8s.io/queue-name", cluster.queue)

    def cpu(
        self, *tasks: Any, annotator: bool = False, tracking: bool = False, models: bool = False, retried: bool = True
    ) -> None:
        """Gives tasks what they need without an accelerator.

        Args:
            tasks: the tasks.
            annotator: whether they get the annotator's key.
            tracking: whether they get MLflow's secret.
            models: whether they get the volume of base models and the hub's token.
            retried: whether a failed task is tried again.
        """
        for task in tasks:
            self._sized(task, self.values["cpu_cores"], self.values["cpu_memory"])
            if retried:
                self._retried(task)
            if annotator:
                self._secret(task, "annotation", self.cluster.key_env)
            if tracking:
                self._tracking(task)
            if models:
                self._models(task)

    def _sized(self, task: Any, cores: Any, memory: Any, *more: Any) -> None:
        # Requests equal limits, so that a pod is not evicted while it uses what it was promised. KFP passes these
        # parameters into loops only if it is told that the task uses them.
        task.register_pipeline_channels([cores, memory, *more])
        task.set_cpu_request(cores).set_cpu_limit(cores).set_memory_request(memory).set_memory_limit(memory)
        kubernetes.set_timeout(task, int(self.cluster.timeout_hours * 3600))

    def _retried(self, task: Any) -> None:
        if self.cluster.retries:
            task.set_retry(self.cluster.retries, f"{self.cluster.back_off}s", 2, "1800s")

    def _models(self, task: Any) -> None:
        self._secret(task, "hub", "HF_TOKEN")
        if self.cluster.ask_hub:
            task.set_env_variable("HF_HUB_OFFLINE", "0")  # the images set it to 1
        if self.cluster.models_claim:
            kubernetes.mount_pvc(task, self.cluster.models_claim, MODELS)
            task.set_env_variable("HF_HOME", f"{MODELS}/hub")

    def _tracking(self, task: Any) -> None:
        self._secret(task, "tracking", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")

    def _secret(self, task: Any, name: str, *variables: str) -> None:
        kubernetes.use_secret_as_env(
            task, self.values[f"secret_{name}"], {variable: variable for variable in variables}, optional=True
        )


def with_resources(
    cluster: Cluster, *steps: str, secrets: tuple[str, ...] = ("hub",)
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a pipeline's function the parameters of steps and secrets; it receives them together as `resources`.

    KFP wants every parameter in the signature and described in the docstring; both are added here:

        @dsl.pipeline(name="iteration")
        @with_resources(cluster, "dpo", "evaluate")
        def iteration(workspace: str, resources: Resources) -> str: ...

    `resources` must be the last parameter, and `Returns:` the last section of the docstring.
    """
    added = parameters(steps, secrets)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function)
        own = [parameter for name, parameter in signature.parameters.items() if name != "resources"]
        more = [
            inspect.Parameter(name, own[0].kind, default=entry.default, annotation=type(entry.default))
            for name, entry in added.items()
        ]
        flat = signature.replace(parameters=[*own, *more])

        @wraps(function)
        def pipeline(*arguments: Any, **named: Any) -> Any:
            given = flat.bind(*arguments, **named).arguments
            values = {name: given.pop(name) for name in added}
            return function(**given, resources=Resources(cluster, values))

        pipeline.__signature__ = flat  # type: ignore[attr-defined]
        head, mark, tail = (inspect.getdoc(function) or "").partition("\n\nReturns:")
        pipeline.__doc__ = head + "".join(f"\n    {name}: {entry.about}" for name, entry in added.items()) + mark + tail
        return pipeline

    return decorate
