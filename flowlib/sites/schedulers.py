"""What each kind of scheduler calls things: the one place that a site's words are turned into parameters of providers.

The names of the parameters are written down here, rather than looked up in the classes, so that a site's file can be
checked without importing a provider and what it needs.  A test compares them with the classes.
"""

from __future__ import annotations

from dataclasses import dataclass

BLOCKS = frozenset({"nodes_per_block", "init_blocks", "min_blocks", "max_blocks", "parallelism"})
BATCH = BLOCKS | {
    "walltime", "scheduler_options", "worker_init", "cmd_timeout", "launcher", "status_polling_interval", "transport",
}  # fmt: skip

LAUNCHERS = {
    "aprun": ("AprunLauncher", frozenset({"overrides"})),
    "flux": ("FluxLauncher", frozenset({"overrides"})),
    "jsrun": ("JsrunLauncher", frozenset({"overrides"})),
    "mpiexec": ("MpiExecLauncher", frozenset({"bind_cmd", "overrides"})),
    "mpirun": ("MpiRunLauncher", frozenset({"bash_location", "overrides"})),
    "simple": ("SimpleLauncher", frozenset[str]()),
    "single": ("SingleNodeLauncher", frozenset({"fail_on_any"})),
    "srun": ("SrunLauncher", frozenset({"overrides"})),
}
"""Class and parameters by the name in a site's file."""


@dataclass(frozen=True)
class Scheduler:
    """A kind of scheduler.

    Attributes:
        provider: Class in ``flowlib.providers``; "" for none: threads of the script's own process.
        parameters: Of that class, those that a site or a user may set.
        queue: The parameter that takes the partition or queue; "" if there are none.
        account: The parameter for who pays.
        cores: The parameter for CPUs of a node.
        memory: The parameter for GB of memory of a node.
        launcher: What starts a manager on each node, if the site says nothing.
        overrides: Options for that.
        asks_cores: Whether jobs are given no more CPUs than they ask for, whole nodes or not.
    """

    provider: str
    parameters: frozenset[str]
    queue: str = ""
    account: str = ""
    cores: str = ""
    memory: str = ""
    launcher: str = "simple"
    overrides: str = ""
    asks_cores: bool = True


SCHEDULERS = {
    "slurm": Scheduler(
        "SlurmProvider",
        BATCH | {"partition", "account", "qos", "constraint", "clusters", "cores_per_node", "mem_per_node",
                 "gpus_per_node", "gres", "exclusive", "status_batch_size", "regex_job_id"},
        "partition", "account", "cores_per_node", "mem_per_node", "srun", "--cpu-bind=none", asks_cores=False,
    ),
    "pbspro": Scheduler(
        "PBSProProvider",
        BATCH | {"account", "queue", "select_options", "cpus_per_node"},
        "queue", "account", "cpus_per_node", launcher="mpiexec",
    ),
    "torque": Scheduler("TorqueProvider", BATCH | {"account", "queue"}, "queue", "account", launcher="aprun"),
    "lsf": Scheduler(
        "LSFProvider",
        BATCH | {"cores_per_block", "cores_per_node", "project", "queue", "bsub_redirection", "request_by_nodes"},
        "queue", "project", "cores_per_node", launcher="mpirun",
    ),
    "gridengine": Scheduler("GridEngineProvider", BATCH | {"queue"}, "queue", launcher="single"),
    "condor": Scheduler(
        "CondorProvider",
        BATCH | {"cores_per_slot", "mem_per_slot", "environment", "project", "transfer_input_files", "requirements",
                 "cmd_chunk_size"},
        "", "project", "cores_per_slot", "mem_per_slot", "single", asks_cores=False,
    ),
    "flux": Scheduler(
        "FluxProvider", BATCH | {"queue", "bank", "cores_per_node", "gpus_per_node", "exclusive"},
        "queue", "bank", launcher="flux",
    ),
    "kubernetes": Scheduler(
        "KubernetesProvider",
        BLOCKS | {"image", "namespace", "max_cpu", "max_mem", "init_cpu", "init_mem", "extra_requests", "extra_limits",
                  "worker_init", "pod_name", "user_id", "group_id", "run_as_non_root", "secret", "persistent_volumes",
                  "service_account_name", "annotations", "image_pull_secrets", "node_selector", "tolerations",
                  "environment", "kube_config", "context", "pending_limit", "cmd_timeout", "status_polling_interval"},
        launcher="",
    ),
    "aws": Scheduler(
        "AWSProvider",
        BLOCKS | {"image_id", "key_name", "worker_init", "instance_type", "region", "spot_max_bid", "key_file",
                  "profile", "iam_instance_profile_arn", "state_file", "walltime", "linger", "launcher", "subnet_id",
                  "security_group_ids", "tags", "endpoint_url", "cmd_timeout", "status_polling_interval"},
        launcher="single",
    ),
    "ssh": Scheduler(
        "SSHProvider",
        BLOCKS | {"hosts", "ssh_config", "user", "key_filename", "jump", "known_hosts", "accept_new_host_keys",
                  "allow_agent", "worker_init", "workdir", "private_dir", "python", "launcher", "tunnel",
                  "connect_timeout", "reconnect_timeout", "cmd_timeout"},
        launcher="single",
    ),
    "local": Scheduler(
        "LocalProvider", BLOCKS | {"launcher", "worker_init", "cmd_timeout", "walltime"}, launcher="single"
    ),
    "threads": Scheduler("", frozenset(), launcher=""),
    "cobalt": Scheduler("", frozenset(), launcher=""),
}  # fmt: skip
"""By the name in a site's file; nothing runs on "cobalt", which stands for machines of the past."""
