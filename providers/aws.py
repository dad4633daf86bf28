"""Blocks as instances of EC2: one instance is one block.

Everything that a provider makes carries tags with a token that nobody else has; nothing without them is listed or
ended.  The script by which an instance starts is kept by EC2, where others may read it, so the key in it is good for
one use only: see ``keys_are_read_by_others``.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from flowlib.errors import ConfigurationError, ExecutionProviderException, SubmitException
from flowlib.jobs.states import JobState, JobStatus
from flowlib.launchers import Launcher, SingleNodeLauncher, check_launcher
from flowlib.providers import ec2
from flowlib.providers.base import ExecutionProvider, RemoteSide, check_blocks, safe_name
from flowlib.providers.ec2_client import Ec2Client, Ec2Error, Ec2Unreachable
from flowlib.providers.ec2_network import make_network, remove_network
from flowlib.representation import RepresentationMixin
from flowlib.units import parse_time

logger = logging.getLogger(__name__)

VANISHED_AFTER = 120.0
"""Seconds for which an instance may be missing in EC2's lists, which are behind, before it counts as gone."""


class AWSProvider(RepresentationMixin, ExecutionProvider):
    """Runs blocks as instances of Amazon's EC2.

    A block is one instance, with one manager. It shuts itself down when its manager ends, or after ``walltime``, also
    if this process is gone by then. Needs boto3, the extra ``[aws]``, and credentials where boto3 looks for them.

    Args:
        image_id: The machine image (AMI). It needs bash, cloud-init, and a Python of this process's version with
            flowlib, unless ``worker_init`` installs them.
        key_name: Name of the key pair for logging in; None for none.
        init_blocks: Blocks started at once.
        min_blocks: Blocks kept alive also without work.
        max_blocks: Most blocks alive at a time.
        nodes_per_block: A block is one instance: 1.
        parallelism: Slots per unfinished task to aim for, from 0 to 1.
        worker_init: Shell text that runs on the instance before the manager, in bash, as root.
        instance_type: Type of the instances.
        region: The region.
        spot_max_bid: Most dollars an hour for a spot instance; 0 for instances that are not taken back.
        key_file: JSON file with ``AWSAccessKeyId`` and ``AWSSecretKey``; None for boto3's usual places.
        profile: Profile of the AWS configuration.
        iam_instance_profile_arn: What the instances may do in AWS.
        state_file: Where to keep the ids of network and instances, and to take those of the network from; None for
            nowhere: what there is is found by its tags.
        walltime: Time after which an instance shuts itself down.
        linger: Leave instances running when their managers end, and when they are cancelled, to look into them. They
            cost money until you end them.
        launcher: Turns a command into one command per manager.
        subnet_id: Subnet or subnets for the instances; None for a network that is made once, with a tag, and used by
            all later runs (see ``teardown``).
        security_group_ids: Security groups for the instances; with ``subnet_id`` only.
        tags: More tags for the instances.
        endpoint_url: Where EC2 is, for servers that only speak like it.
        cmd_timeout: Seconds for each call to EC2.
        status_polling_interval: Seconds between queries.

    Raises:
        ConfigurationError: An argument makes no sense.
        BadLauncher: The launcher is none.

    Example:
        >>> provider = AWSProvider("ami-0123456789abcdef0", "mykey", spot_max_bid=0.05, walltime="2h")
        >>> provider.walltime_s
        7200.0
    """

    keys_are_read_by_others = True

    def __init__(
        self,
        image_id: str,
        key_name: str | None = None,
        init_blocks: int = 1,
        min_blocks: int = 0,
        max_blocks: int = 10,
        nodes_per_block: int = 1,
        parallelism: float = 1,
        worker_init: str = "",
        instance_type: str = "t2.small",
        region: str = "us-east-2",
        spot_max_bid: float = 0,
        key_file: str | None = None,
        profile: str | None = None,
        iam_instance_profile_arn: str = "",
        state_file: str | None = None,
        walltime: object = "01:00:00",
        linger: bool = False,
        launcher: Launcher | None = None,
        subnet_id: str | Sequence[str] | None = None,
        security_group_ids: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
        endpoint_url: str | None = None,
        cmd_timeout: float = 30,
        status_polling_interval: float = 20,
    ) -> None:
        for name, text in {"image_id": image_id, "instance_type": instance_type, "region": region}.items():
            given: object = text
            if not isinstance(given, str) or not given.strip():
                raise ConfigurationError(f"AWSProvider({name}={given!r}): give a name")
        init: object = worker_init
        if not isinstance(init, str):
            raise ConfigurationError(f"AWSProvider(worker_init={init!r}): give text")
        self.init_blocks = check_blocks(
            "AWSProvider",
            nodes_per_block=nodes_per_block,
            init_blocks=init_blocks,
            min_blocks=min_blocks,
            max_blocks=max_blocks,
            parallelism=parallelism,
        )
        if nodes_per_block != 1:
            raise ConfigurationError(
                f"AWSProvider(nodes_per_block={nodes_per_block}): a block is one instance; for more instances raise "
                "max_blocks and init_blocks"
            )
        for name, value, least in (
            ("spot_max_bid", spot_max_bid, 0),
            ("cmd_timeout", cmd_timeout, 1e-3),
            ("status_polling_interval", status_polling_interval, 1e-3),
        ):
            number: object = value
            if isinstance(number, bool) or not isinstance(number, (int, float)) or number < least:
                raise ConfigurationError(f"AWSProvider({name}={number!r}): give a number, {least:g} or more")
        if security_group_ids and subnet_id is None:
            raise ConfigurationError("AWSProvider(security_group_ids=...) needs subnet_id=, a subnet of their network")
        try:
            self.walltime_s: float | None = parse_time(walltime, "walltime")
        except (TypeError, ValueError) as e:
            raise ConfigurationError(f"AWSProvider: {e}") from e
        self.image_id = image_id
        self.key_name = key_name
        self.min_blocks = min_blocks
        self.max_blocks = max_blocks
        self.nodes_per_block = nodes_per_block
        self.parallelism = parallelism
        self.worker_init = worker_init
        self.instance_type = instance_type
        self.region = region
        self.spot_max_bid = spot_max_bid
        self.key_file = key_file
        self.profile = profile
        self.iam_instance_profile_arn = iam_instance_profile_arn
        self.state_file = state_file
        self.walltime = walltime
        self.linger = linger
        self.launcher = check_launcher(launcher if launcher is not None else SingleNodeLauncher())
        self.subnet_id = subnet_id
        self.security_group_ids = list(security_group_ids)
        self.tags = dict(tags or {})
        self.endpoint_url = endpoint_url
        self.cmd_timeout = cmd_timeout
        self._interval = status_polling_interval
        self.script_dir: str | None = None
        self.run = secrets.token_hex(8)
        self._client: Ec2Client | None = None
        self._network: ec2.Json | None = None
        self._count = 0
        self._zone = 0
        self._python: str | None = None
        self._delivered: dict[str, dict[str, bytes]] = {}
        self._jobs: dict[str, _Machine] = {}

    # ------------------------------------------------------------------------------------------- the provider's face

    @property
    def label(self) -> str:
        """``ec2``."""
        return "ec2"

    @property
    def status_polling_interval(self) -> float:
        """As given."""
        return self._interval

    @property
    def resources(self) -> dict[str, dict[str, object]]:
        """Instance and last known status of each job, by job id."""
        return {name: {"job_id": name, "instance": job.id, "status": job.status} for name, job in self._jobs.items()}

    def remote_side(self, home: tuple[str, int], python: str | None, logdir: str) -> RemoteSide:
        """What is different for managers on instances; see ``ExecutionProvider.remote_side``."""
        self._python = python
        return RemoteSide(logdir="${FLOWLIB_LOGDIR}", python='"$FLOWLIB_PYTHON"')

    def deliver(self, files: Mapping[str, bytes], job_name: str = "block") -> str:
        """Keep files until the instance is asked for; they travel in its start-up script, which others may read."""
        for name in files:
            if os.path.basename(name) != safe_name(name) or not name:
                raise ValueError(f"deliver takes plain file names, not {name!r}")
        self._delivered[job_name] = dict(files)
        return "${FLOWLIB_BLOCK_DIR}"

    def render_script(self, command: str, tasks_per_node: int = 1, job_name: str = "flowlib.auto") -> str:
        """The script that an instance runs when it starts; see ``ExecutionProvider.render_script``."""
        return ec2.start_script(
            self.launcher(command, tasks_per_node, 1),
            self._delivered.get(job_name, {}),
            job_name=job_name,
            worker_init=self.worker_init,
            python=self._python,
            walltime_s=self.walltime_s or 3600.0,
            linger=self.linger,
        )

    # ------------------------------------------------------------------------------------------------------- submit

    def submit(self, command: str, tasks_per_node: int, job_name: str = "flowlib.auto") -> str:
        """Ask for an instance.

        Args:
            command: Shell command line.
            tasks_per_node: How many copies of it.
            job_name: As for ``deliver``.

        Returns:
            The instance's id; or a name of our own, if the answer was lost and there may be none. ``status`` finds out,
            and asks again.

        Raises:
            SubmitException: It was refused. ``retryable`` says whether asking again can help.
            OptionalModuleMissing: boto3 is not installed.
            ConfigurationError: There are no credentials.
        """
        client = self._connected()
        script = self.render_script(command, tasks_per_node, job_name)
        self._delivered.pop(job_name, None)
        if len(script.encode()) > ec2.USER_DATA_MOST:
            error = SubmitException(
                job_name,
                f"the start-up script has {len(script.encode())} bytes and EC2 takes {ec2.USER_DATA_MOST}; shorten "
                "worker_init, for example by putting it into the image",
            )
            error.retryable = False
            raise error
        unique = f"{safe_name(job_name)[:40]}-{self.run}-{self._count}"
        self._count += 1
        job = _Machine(unique, job_name, script)
        self._start(client, job)
        handle = job.id or job.name
        self._jobs[handle] = job
        self._remember()
        return handle

    def _start(self, client: Ec2Client, job: _Machine) -> None:
        """Ask for a job's instance, in one zone after the other; notes if it cannot be known whether there is one."""
        job.doubt = ""
        refusal: ec2.Ec2Refusal | None = None
        try:
            subnets, shape = self._places(client)
            for _ in subnets:
                subnet = subnets[self._zone % len(subnets)]
                # Each zone is a request of its own: a token must not come with other parameters.
                request = ec2.run_request(
                    f"{job.name}-{self._zone % len(subnets)}", self.run, job.name, job.script, shape, subnet
                )
                try:
                    answer = client.call("run_instances", **request)
                except Ec2Error as e:
                    refusal = ec2.read_ec2_refusal(e.code, e.message, e.status)
                    if not refusal.elsewhere:
                        break
                    self._zone += 1
                    continue
                job.found(str(answer["Instances"][0]["InstanceId"]))
                return
        except Ec2Error as e:
            refusal = ec2.read_ec2_refusal(e.code, e.message, e.status)
        except Ec2Unreachable as e:
            job.doubt = f"it is not known whether there is an instance {job.name}: {e}"
            return
        error = SubmitException(job.job_name, refusal.why if refusal is not None else "there is no subnet")
        error.retryable = refusal is not None and refusal.retryable
        raise error

    def _places(self, client: Ec2Client) -> tuple[Sequence[str], ec2.MachineShape]:
        """Subnets to choose from, and what all instances have in common."""
        groups: Sequence[str] = self.security_group_ids
        if self.subnet_id is not None:
            subnets = [self.subnet_id] if isinstance(self.subnet_id, str) else list(self.subnet_id)
        else:
            if self._network is None:
                self._network = self._remembered() or make_network(client, "default")
            subnets, groups = self._network["snIDs"], [self._network["sgID"]]
        shape = ec2.MachineShape(
            image_id=self.image_id,
            instance_type=self.instance_type,
            key_name=self.key_name,
            security_groups=groups,
            profile_arn=self.iam_instance_profile_arn,
            spot_max_bid=self.spot_max_bid,
            tags=list(self.tags.items()),
        )
        return subnets, shape

    # ------------------------------------------------------------------------------------------------------- status

    def status(self, job_ids: Sequence[object]) -> list[JobStatus]:
        """The state of jobs, by one query for all.

        Raises:
            ExecutionProviderException: The query was not answered.
        """
        known = [job for id_ in job_ids if (job := self._jobs.get(str(id_))) is not None]
        if any(not job.status.terminal for job in known):
            client = self._connected()
            try:
                listed = client.instances(ec2.own(self.run))
            except (Ec2Error, Ec2Unreachable) as e:
                raise ExecutionProviderException(f"the instances cannot be listed: {e}") from e
            by_id = {str(instance["InstanceId"]): instance for instance in listed}
            for job in known:
                if not job.status.terminal:
                    if job.id is None:
                        self._resolve(client, job, listed)
                    self._look(client, job, by_id.get(job.id or ""))
            self._rest()
        unknown = "this provider started no instance {!r}"
        return [
            self._jobs[str(id_)].told() if str(id_) in self._jobs else JobStatus(JobState.MISSING, unknown.format(id_))
            for id_ in job_ids
        ]

    def _resolve(self, client: Ec2Client, job: _Machine, listed: Sequence[ec2.Json]) -> None:
        """Find out about a request whose answer was lost."""
        ours = [
            instance
            for instance in listed
            if any(tag == {"Key": ec2.BLOCK, "Value": job.name} for tag in instance.get("Tags") or [])
        ]
        if ours:
            job.found(str(ours[0]["InstanceId"]))
            extra = [str(instance["InstanceId"]) for instance in ours[1:]]
            if job.cancelled:
                extra.append(str(job.id))
            if extra:
                self._terminate(client, extra)
            return
        job.absent += 1
        if job.absent < 2:
            return  # lists are behind
        job.absent = 0
        if job.cancelled:
            job.status = JobStatus(JobState.CANCELLED, "cancelled before it was started")
            return
        try:
            self._start(client, job)
        except SubmitException as e:
            if not e.retryable:
                job.status = JobStatus(JobState.FAILED, str(e))

    def _look(self, client: Ec2Client, job: _Machine, instance: ec2.Json | None) -> None:
        """Take over what the list says of a job."""
        if job.id is None:
            return
        now = time.monotonic()
        if instance is None:
            job.gone_since = now if job.gone_since is None else job.gone_since
            if now - job.gone_since >= VANISHED_AFTER:
                job.status = JobStatus(JobState.MISSING, f"EC2 does not know the instance {job.id} any more")
            return
        job.gone_since = None
        seen = ec2.read_instance(instance)
        if not seen.state.terminal:
            job.status = replace(job.status, state=seen.state, message=seen.reason or None)
            return
        if job.cancelled:
            seen = replace(seen, state=JobState.CANCELLED, reason="cancelled")
        out = None if seen.state is JobState.CANCELLED else self._console(client, job)
        job.status = JobStatus(seen.state, f"{seen.reason}, instance {job.id}", None, None, out)

    def _console(self, client: Ec2Client, job: _Machine) -> str | None:
        """Keep the end of what an instance wrote to its console; None where there is nothing."""
        try:
            text = client.call("get_console_output", InstanceId=job.id).get("Output")
        except (Ec2Error, Ec2Unreachable) as e:
            logger.debug("the console of %s cannot be read: %s", job.id, e)
            return None
        return self._write(job, ".err", str(text)) if text else None

    # ------------------------------------------------------------------------------------------------------- cancel

    def cancel(self, job_ids: Sequence[object]) -> list[bool]:
        """Terminate instances of this provider, by one call.

        Returns:
            For each whether it is being terminated, or has ended before. False for those of others, with ``linger``,
            and where EC2 did not answer: such an instance shuts itself down when its manager's lease is over.
        """
        doomed: list[str] = []
        answers: dict[int, bool] = {}
        for number, id_ in enumerate(job_ids):
            job = self._jobs.get(str(id_))
            if job is None:
                answers[number] = False
            elif job.status.terminal:
                answers[number] = True
            elif self.linger:
                logger.warning("instance %s lingers; end it yourself", job.id)
                answers[number] = False
            else:
                job.cancelled = True
                if job.id is None:
                    self._find(job)
                if job.id is not None:
                    doomed.append(job.id)
                else:
                    answers[number] = False
        done = self._terminate(self._connected(), doomed) if doomed else set()
        told = [
            answers[number] if number in answers else self._jobs[str(id_)].id in done
            for number, id_ in enumerate(job_ids)
        ]
        self._rest()
        return told

    def _find(self, job: _Machine) -> None:
        """Look for the instance of a request whose answer was lost."""
        try:
            found = self._connected().instances(ec2.own(self.run, job.name))
        except (Ec2Error, Ec2Unreachable) as e:
            logger.warning("%s cannot be looked for: %s", job.name, e)
            return
        if found:
            job.found(str(found[0]["InstanceId"]))

    def _terminate(self, client: Ec2Client, ids: Sequence[str]) -> set[str]:
        """Terminate instances; which of them are ending, or gone."""
        try:
            client.call("terminate_instances", InstanceIds=list(ids))
        except Ec2Error as e:
            if e.code == "InvalidInstanceID.NotFound":
                # One that EC2 has forgotten must not keep the others alive.
                if len(ids) == 1:
                    return set(ids)
                return {id_ for each in ids for id_ in self._terminate(client, [each])}
            logger.warning("instances %s cannot be terminated: %s", ", ".join(ids), e)
            return set()
        except Ec2Unreachable as e:
            logger.warning("instances %s cannot be terminated: %s", ", ".join(ids), e)
            return set()
        return set(ids)

    def teardown(self) -> None:
        """Remove the network that flowlib made in this region. Not needed: it costs nothing, and serves all runs.

        Raises:
            ExecutionProviderException: It is in use, or EC2 does not answer.
        """
        try:
            remove_network(self._connected(), "default")
        except (Ec2Error, Ec2Unreachable) as e:
            raise ExecutionProviderException(f"the network cannot be removed: {e}") from e
        finally:
            self._rest()
        self._network = None

    # ------------------------------------------------------------------------------------------------------ helpers

    def _connected(self) -> Ec2Client:
        if self._client is None:
            self._client = Ec2Client(self.region, self.profile, self.key_file, self.endpoint_url, self.cmd_timeout)
        return self._client

    def _rest(self) -> None:
        """Keep no connection open that is not needed."""
        if self._client is not None and all(job.status.terminal or job.cancelled for job in self._jobs.values()):
            client, self._client = self._client, None
            client.close()

    def _remembered(self) -> ec2.Json | None:
        """The network that the state file names."""
        if self.state_file is None or not os.path.exists(self.state_file):
            return None
        try:
            with open(self.state_file, encoding="utf-8") as file:
                state = json.load(file)
            return {"vpcID": state["vpcID"], "sgID": state["sgID"], "snIDs": list(state["snIDs"])}
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise ConfigurationError(
                f"AWSProvider(state_file={self.state_file!r}): {type(e).__name__}: {e}; correct it, or remove it to "
                "have another one"
            ) from e

    def _remember(self) -> None:
        """Write the state file."""
        if self.state_file is None or self._network is None:
            return
        instances = [job.id for job in self._jobs.values() if job.id is not None and not job.status.terminal]
        aside = f"{self.state_file}.{os.getpid()}"
        try:
            with open(aside, "w", encoding="utf-8") as file:
                json.dump({**self._network, "instances": instances}, file, indent=1)
            os.replace(aside, self.state_file)
        except OSError as e:
            logger.warning("%s cannot be written: %s", self.state_file, e)

    def _write(self, job: _Machine, ending: str, text: str) -> str | None:
        """Keep something beside the submit scripts, for reports."""
        if self.script_dir is None:
            return None
        path = os.path.join(os.path.abspath(self.script_dir), f"{job.name}{ending}")
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as e:
            logger.warning("%s cannot be written: %s", path, e)
            return None
        return path


@dataclass(eq=False)
class _Machine:
    """An instance, or a request that may have made one.

    Attributes:
        name: Unique; its tag.
        job_name: The block's name.
        script: What it runs when it starts.
        status: What is known.
        id: The instance's; None as long as it is not known whether there is one.
        doubt: Why that is so.
        absent: How often in a row there was no such instance.
        gone_since: Since when EC2 has not listed it.
        cancelled: Whether it was told to end.
    """

    name: str
    job_name: str
    script: str
    status: JobStatus = field(default_factory=lambda: JobStatus(JobState.PENDING))
    id: str | None = None
    doubt: str = ""
    absent: int = 0
    gone_since: float | None = None
    cancelled: bool = False

    def found(self, id_: str) -> None:
        """Its instance is known."""
        self.id, self.doubt, self.absent, self.script = id_, "", 0, ""

    def told(self) -> JobStatus:
        """The status as callers see it."""
        if self.doubt and not self.status.terminal:
            return replace(self.status, state=JobState.UNKNOWN, message=self.doubt)
        return self.status
