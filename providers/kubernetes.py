"""Blocks as pods of a Kubernetes cluster: one pod is one block.

Everything that a provider makes carries the labels of ``pods`` with a token that nobody else has; nothing without them
is listed, read or deleted.  Names are made here, never by the cluster, so that a call whose answer was lost can be made
again: there cannot be two pods of one name.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flowlib.errors import ConfigurationError, ExecutionProviderException, SubmitException
from flowlib.jobs.states import JobState, JobStatus
from flowlib.providers import pods
from flowlib.providers.base import ExecutionProvider, RemoteSide, check_blocks, safe_name
from flowlib.providers.kube_client import KubeClient, KubeError, KubeUnreachable
from flowlib.providers.pod_arguments import check_room, check_seconds, cpus, memory, pairs
from flowlib.providers.pod_jobs import PodEnd, PodJob
from flowlib.representation import RepresentationMixin

logger = logging.getLogger(__name__)

LOG_LINES = 200
LOG_BYTES = 64 * 1024
"""What is kept of a pod's output, from its end."""
GRACE = 10
"""Seconds between SIGTERM and SIGKILL for a cancelled pod."""


class KubernetesProvider(RepresentationMixin, ExecutionProvider):
    """Runs blocks as pods of a Kubernetes cluster.

    A block is one pod, with one manager. Its keys are in a secret that belongs to the pod and is deleted with it. Needs
    the official client, the extra ``[kubernetes]``.

    Args:
        image: The container image. It needs bash, and a Python of this process's version with flowlib.
        namespace: The namespace of the pods, which must exist.
        nodes_per_block: A block is one pod: 1.
        init_blocks: Blocks started at once.
        min_blocks: Blocks kept alive also without work.
        max_blocks: Most blocks alive at a time.
        max_cpu: CPUs that a pod may use at most.
        max_mem: Memory that a pod may use at most, as Kubernetes writes it: "500Mi", "4Gi". A pod that uses more is
            killed.
        init_cpu: CPUs that are reserved for a pod.
        init_mem: Memory that is reserved for a pod.
        extra_requests: More to reserve, by name of the resource.
        extra_limits: More limits, such as ``{"nvidia.com/gpu": "1"}``.
        parallelism: Slots per unfinished task to aim for, from 0 to 1.
        worker_init: Shell text that runs in the pod before the manager, in bash.
        pod_name: Start of the pods' names; None for the block's name.
        user_id: User id in the pod; None for the image's.
        group_id: Group id in the pod; None for the image's.
        run_as_non_root: Refuse to run as root in the pod.
        secret: Name of the secret with the credentials for pulling the image.
        persistent_volumes: Pairs of a persistent volume claim and the directory where it is mounted.
        service_account_name: Account that the pods get for the cluster's API; None for none.
        annotations: Annotations of the pods.
        image_pull_secrets: Names of more secrets like ``secret``.
        node_selector: Labels that nodes must have.
        tolerations: Taints that the pods tolerate, as Kubernetes writes them.
        environment: Variables for the pods. Not for secrets: who may list pods can read them.
        kube_config: Path of the configuration of the cluster; None for kubectl's usual one, or, in a pod, that pod's
            own account.
        context: Which context of the configuration; None for the current one.
        pending_limit: Seconds after which a pod counts as failed whose image cannot be pulled, or whose container
            cannot be made. A pod for which there is no room may wait for ever.
        cmd_timeout: Seconds for each call to the cluster.
        status_polling_interval: Seconds between queries.

    Raises:
        ConfigurationError: An argument makes no sense.

    Example:
        >>> provider = KubernetesProvider("example.org/flowlib:1", max_cpu=4, max_mem="8Gi", max_blocks=20)
        >>> provider.cores_per_node
        4
    """

    def __init__(
        self,
        image: str,
        namespace: str = "default",
        nodes_per_block: int = 1,
        init_blocks: int = 4,
        min_blocks: int = 0,
        max_blocks: int = 10,
        max_cpu: float = 2,
        max_mem: str = "500Mi",
        init_cpu: float = 1,
        init_mem: str = "250Mi",
        extra_requests: Mapping[str, str] | None = None,
        extra_limits: Mapping[str, str] | None = None,
        parallelism: float = 1,
        worker_init: str = "",
        pod_name: str | None = None,
        user_id: int | None = None,
        group_id: int | None = None,
        run_as_non_root: bool = False,
        secret: str | None = None,
        persistent_volumes: Sequence[tuple[str, str]] = (),
        service_account_name: str | None = None,
        annotations: Mapping[str, str] | None = None,
        image_pull_secrets: Sequence[str] = (),
        node_selector: Mapping[str, str] | None = None,
        tolerations: Sequence[Mapping[str, Any]] = (),
        environment: Mapping[str, str] | None = None,
        kube_config: str | None = None,
        context: str | None = None,
        pending_limit: float = 60,
        cmd_timeout: float = 30,
        status_polling_interval: float = 10,
    ) -> None:
        for name, text in {"image": image, "namespace": namespace}.items():
            given: object = text
            if not isinstance(given, str) or not given.strip():
                raise ConfigurationError(f"KubernetesProvider({name}={given!r}): give a name")
        init: object = worker_init
        if not isinstance(init, str):
            raise ConfigurationError(f"KubernetesProvider(worker_init={init!r}): give text")
        self.init_blocks = check_blocks(
            "KubernetesProvider",
            nodes_per_block=nodes_per_block,
            init_blocks=init_blocks,
            min_blocks=min_blocks,
            max_blocks=max_blocks,
            parallelism=parallelism,
        )
        if nodes_per_block != 1:
            raise ConfigurationError(
                f"KubernetesProvider(nodes_per_block={nodes_per_block}): a block is one pod; for more pods raise "
                "max_blocks and init_blocks"
            )
        check_seconds(
            pending_limit=pending_limit, cmd_timeout=cmd_timeout, status_polling_interval=status_polling_interval
        )
        check_room("cpu", init_cpu, max_cpu, cpus)
        check_room("mem", init_mem, max_mem, memory)
        self.persistent_volumes = pairs(persistent_volumes)
        self.image = image
        self.namespace = namespace
        self.nodes_per_block = nodes_per_block
        self.min_blocks = min_blocks
        self.max_blocks = max_blocks
        self.max_cpu = max_cpu
        self.max_mem = max_mem
        self.init_cpu = init_cpu
        self.init_mem = init_mem
        self.extra_requests = dict(extra_requests or {})
        self.extra_limits = dict(extra_limits or {})
        self.parallelism = parallelism
        self.worker_init = worker_init
        self.pod_name = pod_name
        self.user_id = user_id
        self.group_id = group_id
        self.run_as_non_root = run_as_non_root
        self.secret = secret
        self.service_account_name = service_account_name
        self.annotations = dict(annotations or {})
        self.image_pull_secrets = list(image_pull_secrets)
        self.node_selector = dict(node_selector or {})
        self.tolerations = list(tolerations)
        self.environment = dict(environment or {})
        self.kube_config = kube_config
        self.context = context
        self.pending_limit = pending_limit
        self.cmd_timeout = cmd_timeout
        self._interval = status_polling_interval
        cores = int(cpus(max_cpu))
        self.cores_per_node = cores or None
        self.mem_per_node = memory(max_mem) / (1 << 30)
        self.script_dir: str | None = None
        self.run = secrets.token_hex(6)
        self._client: KubeClient | None = None
        self._count = 0
        self._python: str | None = None
        self._delivered: dict[str, dict[str, bytes]] = {}
        self._jobs: dict[str, PodJob] = {}

    # ------------------------------------------------------------------------------------------- the provider's face

    @property
    def label(self) -> str:
        """``kubernetes``."""
        return "kubernetes"

    @property
    def status_polling_interval(self) -> float:
        """As given."""
        return self._interval

    @property
    def resources(self) -> dict[str, dict[str, object]]:
        """Pod name and last known status of each job, by job id, which is the pod's name."""
        return {name: {"job_id": name, "status": job.status} for name, job in self._jobs.items()}

    def remote_side(self, home: tuple[str, int], python: str | None, logdir: str) -> RemoteSide:
        """What is different for managers in pods; see ``ExecutionProvider.remote_side``."""
        self._python = python
        return RemoteSide(logdir="${FLOWLIB_LOGDIR}", python='"$FLOWLIB_PYTHON"')

    def deliver(self, files: Mapping[str, bytes], job_name: str = "block") -> str:
        """Keep files until the pod is made; it gets them as a secret, mounted where only it can read them."""
        for name in files:
            if os.path.basename(name) != name or not name:
                raise ValueError(f"deliver takes plain file names, not {name!r}")
        self._delivered[job_name] = dict(files)
        return "${FLOWLIB_BLOCK_DIR}"

    def render_script(self, command: str, tasks_per_node: int = 1, job_name: str = "flowlib.auto") -> str:
        """The script that runs in the pod; see ``ExecutionProvider.render_script``."""
        return pods.pod_script(command, tasks_per_node, job_name, self.worker_init, self._python)

    def render_manifest(self, command: str, tasks_per_node: int = 1, job_name: str = "flowlib.auto") -> dict[str, Any]:
        """The pod that ``submit`` would ask for, as the API has it.

        Args:
            command: As for ``submit``.
            tasks_per_node: As for ``submit``.
            job_name: As for ``submit``.

        Example:
            >>> pod = KubernetesProvider("example.org/flowlib:1").render_manifest("true")
            >>> pod["spec"]["containers"][0]["resources"]["limits"]
            {'cpu': '2', 'memory': '500Mi'}
        """
        name = self._name(job_name)
        script = self.render_script(command, tasks_per_node, job_name)
        return pods.pod_manifest(name, self.run, job_name, script, self._shape(), name)

    # ------------------------------------------------------------------------------------------------------- submit

    def submit(self, command: str, tasks_per_node: int, job_name: str = "flowlib.auto") -> str:
        """Make a pod.

        Args:
            command: Shell command line.
            tasks_per_node: How many copies of it.
            job_name: As for ``deliver``.

        Returns:
            The pod's name; also if the answer was lost and there may be none. ``status`` finds out, and makes it again.

        Raises:
            SubmitException: It was refused. ``retryable`` says whether asking again can help.
            OptionalModuleMissing: The client is not installed.
            ConfigurationError: There is no usable configuration of a cluster.
        """
        client = self._connected()
        name = self._name(job_name)
        self._count += 1
        files = self._delivered.pop(job_name, None)
        script = self.render_script(command, tasks_per_node, job_name)
        manifest = pods.pod_manifest(name, self.run, job_name, script, self._shape(), name if files else None)
        secret = pods.secret_manifest(name, self.run, job_name, files) if files else None
        job = PodJob(name, job_name, manifest, secret, self._write(job_name, ".json", json.dumps(manifest, indent=1)))
        job.status = JobStatus(JobState.PENDING, script_path=job.path)
        try:
            self._make(client, job)
        except SubmitException:
            self._discard(client, job)
            raise
        self._jobs[name] = job
        self._write(job_name, ".id", f"{self.namespace}/{name}\n")
        return name

    def _make(self, client: KubeClient, job: PodJob) -> None:
        """Make a job's secret and pod, as far as they are not there; notes if that cannot be known."""
        job.doubt = ""
        try:
            if job.secret is not None:
                self._once(client.create_secret, job.secret)
            pod = self._once(client.create_pod, job.manifest) or client.read_pod(job.name)
        except KubeError as e:
            refusal = pods.read_refusal(e.code, e.said)
            raise _refused(job, refusal.why, retryable=refusal.retryable) from None
        except KubeUnreachable as e:
            if not e.sent:
                raise _refused(job, e.why, retryable=True) from None
            job.doubt = f"it is not known whether there is a pod {job.name}: {e.why}"
            return
        self._found(client, job, pod)

    def _once(self, create: Any, manifest: pods.Json) -> pods.Json | None:
        """Make something; None if it is there already."""
        try:
            made: pods.Json = create(manifest)
        except KubeError as e:
            # Nobody else makes names with this token: an earlier call did, whose answer was lost.
            if not pods.read_refusal(e.code, e.said).exists:
                raise
            return None
        return made

    def _found(self, client: KubeClient, job: PodJob, pod: pods.Json) -> None:
        """A job's pod is known to be there."""
        job.doubt, job.absent = "", 0
        job.uid = str(pod["metadata"]["uid"])
        if job.secret is not None and not job.owned:
            try:
                client.change_secret(job.name, pods.ownership(job.name, job.uid))
                job.owned = True
            except (KubeError, KubeUnreachable) as e:
                # It is deleted by name all the same; the owner is for the case that this process is killed.
                logger.warning("the secret %s could not be given to its pod: %s", job.name, e)

    # ------------------------------------------------------------------------------------------------------- status

    def status(self, job_ids: Sequence[object]) -> list[JobStatus]:
        """The state of jobs, by one query for all.

        Raises:
            ExecutionProviderException: The query was not answered.
        """
        known = [job for id_ in job_ids if (job := self._jobs.get(str(id_))) is not None]
        if any(not job.over for job in known):
            client = self._connected()
            try:
                listed = {pod["metadata"]["name"]: pod for pod in client.list_pods(f"{pods.RUN}={self.run}")}
            except (KubeError, KubeUnreachable) as e:
                raise ExecutionProviderException(f"the pods cannot be listed: {e}") from e
            for job in known:
                if not job.over:
                    self._look(client, job, listed.get(job.name))
            self._rest()
        unknown = "this provider made no pod {!r}"
        return [
            self._jobs[str(id_)].told() if str(id_) in self._jobs else JobStatus(JobState.MISSING, unknown.format(id_))
            for id_ in job_ids
        ]

    def _look(self, client: KubeClient, job: PodJob, pod: pods.Json | None) -> None:
        """Take over what the list says of a job."""
        if pod is None:
            self._absent(client, job)
            return
        if not job.uid:
            self._found(client, job, pod)
            if job.cancelled:
                self._delete(client, job)
        seen = pods.read_pod(pod)
        if seen.state.terminal:
            if job.cancelled:
                seen = replace(seen, state=JobState.CANCELLED, reason="cancelled")
            self._ended(client, job, seen)
            return
        now = time.monotonic()
        job.stuck_since = None if not seen.stuck else job.stuck_since if job.stuck_since is not None else now
        if job.stuck_since is not None and (seen.stuck > 1 or now - job.stuck_since >= self.pending_limit):
            self._ended(client, job, replace(seen, state=JobState.FAILED))
            return
        message = "is being ended" if job.cancelled else seen.reason or None
        job.status = replace(job.status, state=seen.state, message=message)

    def _absent(self, client: KubeClient, job: PodJob) -> None:
        """The cluster has no such pod."""
        if job.uid:
            why = "cancelled" if job.cancelled else "somebody else, or the cluster, deleted its pod"
            self._end(job, PodEnd(JobState.CANCELLED, why))
            self._discard(client, job)
            return
        job.absent += 1
        if job.absent < 2:
            return  # a call that was slow may still arrive
        job.absent = 0
        if job.cancelled:
            self._end(job, PodEnd(JobState.CANCELLED, "cancelled before it was made"))
            self._discard(client, job)
            return
        try:
            self._make(client, job)
        except SubmitException as e:
            if not e.retryable:
                self._end(job, PodEnd(JobState.FAILED, str(e)))
                self._discard(client, job)

    def _ended(self, client: KubeClient, job: PodJob, seen: pods.PodSeen) -> None:
        """A pod ended, or never will begin: keep what it said, and remove it."""
        out = None
        if seen.state is not JobState.CANCELLED and seen.exit_code is not None:
            try:
                log = client.read_log(job.name, LOG_LINES, LOG_BYTES)
            except (KubeError, KubeUnreachable) as e:
                log = f"the log of pod {job.name} cannot be read: {e}\n".encode()
            out = self._write(job.job_name, ".err", log.decode(errors="replace"))
        self._end(job, PodEnd(seen.state, seen.reason, seen.exit_code, out))
        self._delete(client, job)
        self._discard(client, job)

    def _end(self, job: PodJob, end: PodEnd) -> None:
        job.over = True
        job.secret_bytes_gone()
        job.status = JobStatus(end.state, end.reason or None, end.exit_code, None, end.output, job.path)

    # ------------------------------------------------------------------------------------------------------- cancel

    def cancel(self, job_ids: Sequence[object]) -> list[bool]:
        """Delete pods of this provider, with their secrets.

        Returns:
            For each whether it is being deleted, or has ended before. False for those of others, and where the cluster
            did not answer: the manager of such a pod ends by itself when its lease is over.
        """
        answers = []
        for id_ in job_ids:
            job = self._jobs.get(str(id_))
            if job is None:
                answers.append(False)
            elif job.over:
                answers.append(True)
            else:
                job.cancelled = True
                answers.append(self._cancel(self._connected(), job))
        self._rest()
        return answers

    def _cancel(self, client: KubeClient, job: PodJob) -> bool:
        if not job.uid:
            try:
                self._found(client, job, client.read_pod(job.name))
            except KubeError as e:
                if e.code == 404:
                    self._discard(client, job)
                return e.code == 404
            except KubeUnreachable:
                return False
        return self._delete(client, job) and self._discard(client, job)

    def _delete(self, client: KubeClient, job: PodJob) -> bool:
        """Delete a job's pod; whether it is gone, or on its way."""
        return _gone("pod", job, lambda: client.delete_pod(job.name, job.uid, GRACE))

    def _discard(self, client: KubeClient, job: PodJob) -> bool:
        """Delete a job's secret, if it has one; whether it is gone."""
        return job.secret is None or _gone("secret", job, lambda: client.delete_secret(job.name))

    # ------------------------------------------------------------------------------------------------------ helpers

    def _name(self, job_name: str) -> str:
        return pods.object_name(self.pod_name or job_name, f"{self.run}-{self._count}")

    def _shape(self) -> pods.PodShape:
        return pods.PodShape(
            image=self.image,
            requests={"cpu": f"{self.init_cpu:g}", "memory": self.init_mem, **self.extra_requests},
            limits={"cpu": f"{self.max_cpu:g}", "memory": self.max_mem, **self.extra_limits},
            user_id=self.user_id,
            group_id=self.group_id,
            run_as_non_root=self.run_as_non_root,
            pull_secrets=[name for name in (self.secret, *self.image_pull_secrets) if name],
            volumes=self.persistent_volumes,
            service_account=self.service_account_name,
            annotations=self.annotations,
            node_selector=self.node_selector,
            tolerations=self.tolerations,
            environment=self.environment,
        )

    def _connected(self) -> KubeClient:
        if self._client is None:
            self._client = KubeClient(self.namespace, self.kube_config, self.context, self.cmd_timeout)
        return self._client

    def _rest(self) -> None:
        """Keep no connection open that is not needed."""
        if self._client is not None and all(job.over or job.cancelled for job in self._jobs.values()):
            client, self._client = self._client, None
            client.close()

    def _write(self, job_name: str, ending: str, text: str) -> str | None:
        """Keep something beside the submit scripts, for reports."""
        if self.script_dir is None:
            return None
        path = os.path.join(os.path.abspath(self.script_dir), f"{safe_name(job_name)}.{self.run}{ending}")
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as e:
            logger.warning("%s cannot be written: %s", path, e)
            return None
        return path


def _gone(what: str, job: PodJob, delete: Callable[[], None]) -> bool:
    """Delete something; whether it is gone, or on its way."""
    try:
        delete()
    except (KubeError, KubeUnreachable) as e:
        # 404: it is gone. 409: another one has the name now, which is none of ours.
        if isinstance(e, KubeError) and e.code in (404, 409):
            return True
        logger.warning("%s %s cannot be deleted: %s", what, job.name, e)
        return False
    return True


def _refused(job: PodJob, why: str, *, retryable: bool) -> SubmitException:
    error = SubmitException(job.job_name, why)
    error.retryable = retryable
    return error
