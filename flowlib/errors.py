"""Every error flowlib raises, in one tree.

The tree is cut by who must act: the user's code failed, the task or a machine was lost, the configuration is
wrong, the site refused, or flowlib itself is broken.  The field's usual module paths for these names
(``flowlib.app.errors``, ``flowlib.dataflow.errors``, ``flowlib.executors.errors`` ...) lead here.

::

    FlowlibError
    ├── ConfigurationError             what was given to Config, load or a decorator cannot work
    │   └── NoDataFlowKernelError      an app was called with nothing loaded
    ├── OptionalModuleMissing          a feature needs an extra that is not installed
    ├── AppException                   the task ran and failed
    │   ├── BashExitFailure            a bash app's command ended with a code other than 0
    │   ├── AppTimeout                 the task outlived its walltime
    │   ├── AppAborted                 the app raised SystemExit, KeyboardInterrupt or alike
    │   ├── BashAppNoReturn            a bash app's body returned no command
    │   ├── RemoteError                the app's exception cannot be rebuilt here; its text can
    │   └── GeneratorResult            the app returned a generator
    ├── AppBadFormatting               a bash app's body could not format its command
    ├── MissingOutputs                 declared output files are not there
    ├── BadStdStreamFile               a stdout or stderr that cannot be opened
    ├── DataFlowException
    │   ├── BadCheckpoint
    │   └── PropagatedException        the task never ran, or was joined, because another failed
    │       ├── DependencyError
    │       └── JoinError
    ├── ExecutorError                  an executor cannot do what was asked
    │   ├── BadStateException          the executor is broken; nothing more runs on it
    │   ├── UnsupportedFeatureError
    │   ├── InvalidResourceSpecification
    │   ├── ScalingFailed
    │   └── InterchangeLost            the interchange process died
    ├── LostError                      a process or machine went away with the task
    │   ├── WorkerLost                 the worker died while it ran this task
    │   │   └── OutOfMemory            it was killed because of the memory that the task used
    │   ├── ManagerLost                the manager died or fell silent
    │   ├── TaskLost                   the task's whereabouts were lost with a part of flowlib
    │   └── ObjectLost                 a large value was on a machine that is gone
    ├── VersionMismatch                a manager with another Python or protocol
    ├── SerializationError             an argument or function that cannot be sent
    ├── DeserializationError           a result that cannot be rebuilt in this process
    ├── ObjectStoreError               a large value cannot be stored
    │   └── NoRoom                     neither memory nor disk has room for it
    ├── TooManyJobFailuresError        blocks keep failing
    ├── ExecutionProviderException
    │   ├── ScaleOutFailed
    │   ├── SubmitException
    │   ├── HostUnusable               over SSH: what is wrong there, and what to do
    │   ├── SchedulerMissingArgs
    │   ├── ScriptPathError
    │   └── BadLauncher
    └── InternalConsistencyError       a bug in flowlib
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class FlowlibError(Exception):
    """Base of every error that flowlib itself raises.

    Attributes:
        retryable: Whether trying the same thing again can help.
    """

    retryable = True


class ConfigurationError(FlowlibError):
    """What was given to ``Config``, ``load`` or a decorator cannot work; the text says what can."""

    retryable = False


class NoDataFlowKernelError(ConfigurationError):
    """An app was called while no configuration is loaded, or after the kernel was cleaned up."""


class OptionalModuleMissing(FlowlibError):
    """A feature needs packages that are not installed.

    Args:
        module_names: The packages that are missing.
        reason: What needs them, and which extra installs them.
    """

    retryable = False

    def __init__(self, module_names: Sequence[str], reason: str) -> None:
        super().__init__(module_names, reason)
        self.module_names = list(module_names)
        self.reason = reason

    def __str__(self) -> str:
        return f"needs {', '.join(self.module_names)}, not installed: {self.reason}"


class InternalConsistencyError(FlowlibError):
    """A bug in flowlib: something happened that cannot happen. Please report it with its text."""

    retryable = False


# --------------------------------------------------------------------------------------------- the app itself


class AppException(FlowlibError):
    """The task ran and failed."""


class BashExitFailure(AppException):
    """A bash app's command ended with an exit code other than 0.

    Args:
        app_name: The app.
        exitcode: The exit code of bash; 128 + n when its last command died of signal n.
        command: The command line that ran.
        stderr_tail: The last lines of its standard error, where that was kept.
        stdout: Path of the standard output file, if any.
        stderr: Path of the standard error file, if any.
        host: The machine it ran on.
        workdir: The directory it ran in.
    """

    def __init__(
        self,
        app_name: str,
        exitcode: int,
        command: str = "",
        stderr_tail: str = "",
        stdout: str | None = None,
        stderr: str | None = None,
        host: str = "",
        workdir: str = "",
    ) -> None:
        super().__init__(app_name, exitcode, command, stderr_tail, stdout, stderr, host, workdir)
        self.app_name = app_name
        self.exitcode = exitcode
        self.command = command
        self.stderr_tail = stderr_tail
        self.stdout = stdout
        self.stderr = stderr
        self.host = host
        self.workdir = workdir

    def __str__(self) -> str:
        lines = [f"bash_app {self.app_name} failed with unix exit code {self.exitcode}"]
        for label, value in (
            ("command", self.command),
            ("host", self.host),
            ("directory", self.workdir),
            ("stdout", self.stdout),
            ("stderr", self.stderr),
        ):
            if value:
                lines.append(f"  {label}: {value}")
        if self.stderr_tail:
            lines.append("  last lines of stderr:")
            lines.extend(f"    {line}" for line in self.stderr_tail.splitlines())
        return "\n".join(lines)


class AppTimeout(AppException):
    """The task outlived its walltime and was stopped."""


class AppAborted(AppException):
    """The app raised an exception that is meant to end a program: SystemExit, KeyboardInterrupt or alike.

    The worker survives; the task fails with this error, whose ``__cause__`` carries the original where it can
    be sent.
    """


class BashAppNoReturn(AppException):
    """A bash app's body returned no command line."""


class GeneratorResult(AppException):
    """The app returned a generator (or another live iterator), which cannot leave its process."""

    retryable = False


class RemoteError(AppException):
    """The app raised an exception that cannot be rebuilt in this process.

    Args:
        type_name: Qualified name of the exception's class.
        message: Its text.
        traceback: The remote traceback, as text.
        reason: Why the original cannot be rebuilt.
    """

    def __init__(self, type_name: str, message: str, traceback: str = "", reason: str = "") -> None:
        super().__init__(type_name, message, traceback, reason)
        self.type_name = type_name
        self.message = message
        self.traceback = traceback
        self.reason = reason

    def __str__(self) -> str:
        text = f"{self.type_name}: {self.message}"
        return f"{text} (the original exception cannot be rebuilt here: {self.reason})" if self.reason else text


class AppBadFormatting(FlowlibError):
    """A bash app's body failed while it formatted its command line."""


class MissingOutputs(FlowlibError):
    """An app declared output files that do not exist after it ran.

    Args:
        reason: What was found.
        outputs: The missing files.
    """

    def __init__(self, reason: str, outputs: Iterable[Any]) -> None:
        self.reason = reason
        self.outputs = list(outputs)
        super().__init__(reason, self.outputs)

    def __str__(self) -> str:
        return f"missing outputs: {', '.join(str(o) for o in self.outputs)} ({self.reason})"


class BadStdStreamFile(FlowlibError):
    """A stdout or stderr that cannot be opened or makes no sense."""


# ----------------------------------------------------------------------------------------------- the data flow


class DataFlowException(FlowlibError):
    """Base of errors between tasks."""


class BadCheckpoint(DataFlowException):
    """A checkpoint that cannot be read."""


class UnkeyableError(FlowlibError, ValueError):
    """An argument of a remembered call has no key.

    Args:
        where: The way to it, from the call: "args[1]['model'].net".
        what: What is wrong with it.
    """

    retryable = False

    def __init__(self, where: str, what: str) -> None:
        super().__init__(where, what)
        self.where = where
        self.what = what

    def __str__(self) -> str:
        return (
            f"{self.where} {self.what}, so the call cannot be remembered (cache=True): register a function that makes "
            "its key, @flowlib.dataflow.memoization.id_for_memo.register(TheType), or name the argument in "
            "ignore_for_cache"
        )


class PropagatedException(DataFlowException):
    """This task failed because others did; ``__cause__`` is the root cause.

    Args:
        dependent_exceptions_tids: One ``(exception, task)`` pair per failed predecessor; ``task`` describes it.
        task_id: The task that this error belongs to.
        failure_description: What failed: "Dependency failure", "Join failure".
    """

    def __init__(
        self,
        dependent_exceptions_tids: Sequence[tuple[BaseException, str | None]],
        task_id: int,
        failure_description: str = "Dependency failure",
    ) -> None:
        super().__init__(dependent_exceptions_tids, task_id, failure_description)
        self.dependent_exceptions_tids = list(dependent_exceptions_tids)
        self.task_id = task_id
        self._failure_description = failure_description
        # The predecessor knows its own root: a chain of thousands is never walked from each of its links.
        self.__cause__ = None
        if self.dependent_exceptions_tids:
            first = self.dependent_exceptions_tids[0][0]
            root = first.__cause__ if isinstance(first, PropagatedException) else None
            self.__cause__ = first if root is None else root

    def __repr__(self) -> str:
        # Not of the arguments: they hold those of the errors before, and so on to the root.
        text = str(self)
        return f"{type(self).__name__}({text if len(text) <= 300 else text[:297] + '...'!r})"

    def _path(self) -> list[str]:
        """The tasks that lead to the root, the nearest first; those in the middle of a long chain are counted."""
        path: list[str] = []
        error: BaseException = self
        while isinstance(error, PropagatedException) and error.dependent_exceptions_tids:
            error, task = error.dependent_exceptions_tids[0]
            path.append(task if task is not None else "a future of another kind")
        if len(path) > 9:
            path[4:-4] = [f"{len(path) - 8} more"]
        return path

    def __str__(self) -> str:
        text = f"{self._failure_description} for task {self.task_id}."
        path = self._path()
        if path:
            text += f" The representative cause is via {' <- '.join(reversed(path))}"
        cause = self.__cause__
        if cause is not None:
            text += f": {type(cause).__name__}: {cause}"
        return text


class DependencyError(PropagatedException):
    """The task never ran: a task that it depends on failed or was cancelled."""

    retryable = False


class JoinError(PropagatedException):
    """A future that a join app returned failed."""

    def __init__(
        self,
        dependent_exceptions_tids: Sequence[tuple[BaseException, str | None]],
        task_id: int,
        failure_description: str = "Join failure",
    ) -> None:
        super().__init__(dependent_exceptions_tids, task_id, failure_description)


# ------------------------------------------------------------------------------------------------ executors


class ExecutorError(FlowlibError):
    """An executor cannot do what was asked.

    Args:
        executor: The executor, or its label.
        reason: What is wrong.
    """

    def __init__(self, executor: Any, reason: str) -> None:
        self.executor = executor if isinstance(executor, str) else str(getattr(executor, "label", executor))
        self.reason = reason
        super().__init__(self.executor, reason)

    def __str__(self) -> str:
        return f"executor {self.executor}: {self.reason}"


class BadStateException(ExecutorError):
    """The executor is broken: its tasks fail and it takes no further ones.

    Args:
        executor: The executor, or its label.
        exception: What broke it; also the ``__cause__``.
    """

    retryable = False

    def __init__(self, executor: Any, exception: BaseException | None) -> None:
        super().__init__(executor, f"in a bad state because of {type(exception).__name__}: {exception}")
        self.args = (self.executor, exception)
        self.exception = exception
        self.__cause__ = exception


class UnsupportedFeatureError(ExecutorError):
    """The executor does not have this feature.

    Args:
        feature: What was asked for.
        current_executor: The executor that was asked.
        target_executor: One that has it.
    """

    retryable = False

    def __init__(self, feature: str, current_executor: str, target_executor: str | None = None) -> None:
        super().__init__(current_executor, f"{feature} is not supported")
        self.args = (feature, current_executor, target_executor)
        self.feature = feature
        self.current_executor = current_executor
        self.target_executor = target_executor

    def __str__(self) -> str:
        hint = f"; use {self.target_executor}" if self.target_executor else ""
        return f"{self.feature} is not supported by {self.current_executor}{hint}"


class InvalidResourceSpecification(FlowlibError):
    """A resource specification that the executor cannot honour.

    Args:
        invalid_keys: The keys that are wrong.
        message: What is allowed.
    """

    retryable = False

    def __init__(self, invalid_keys: Iterable[str], message: str = "") -> None:
        self.invalid_keys = sorted(invalid_keys)
        self.message = message
        super().__init__(self.invalid_keys, message)

    def __str__(self) -> str:
        keys = ", ".join(repr(k) for k in self.invalid_keys)
        return f"invalid resource specification: {keys}. {self.message}".rstrip()


class ScalingFailed(ExecutorError):
    """A block could not be started or ended."""


class InterchangeLost(ExecutorError):
    """The interchange process of a high-throughput executor died."""

    retryable = False


class LostError(FlowlibError):
    """A process or machine went away with the task on it."""


class WorkerLost(LostError):
    """A worker process died while it ran this task.

    Args:
        worker_id: The worker.
        hostname: Its machine.
        reason: How it ended: signal or exit code.
        log: Where its last words are.
    """

    def __init__(self, worker_id: int | str, hostname: str, reason: str = "", log: str = "") -> None:
        super().__init__(worker_id, hostname, reason, log)
        self.worker_id = worker_id
        self.hostname = hostname
        self.reason = reason
        self.log = log

    def __str__(self) -> str:
        text = f"task failed because worker {self.worker_id} on host {self.hostname} was lost"
        if self.reason:
            text += f": {self.reason}"
        return f"{text}\nlog: {self.log}" if self.log else text


class OutOfMemory(WorkerLost):
    """A task was killed because of the memory that it and its children used.

    A ``MemoryError`` that is raised inside a task is the task's own exception, and stays one.

    Args:
        worker_id: Its worker.
        hostname: The machine.
        requested: Bytes that the task might use: what it asked for, or its worker's share; 0 where the machine itself
            had no more.
        peak: Most bytes that it was seen to use; 0 if unknown.
        reason: Who killed it.
        log: Where its last words are.

    Example:
        >>> print(OutOfMemory(3, "node7", 2**30, 3 * 2**29, "it used more than it may, and was killed"))
        task ran out of memory on host node7 (worker 3): it used more than it may, and was killed
        requested: 1024 MiB, peak: 1536 MiB
    """

    def __init__(
        self, worker_id: int | str, hostname: str, requested: int = 0, peak: int = 0, reason: str = "", log: str = ""
    ) -> None:
        super().__init__(worker_id, hostname, reason, log)
        self.args = (worker_id, hostname, requested, peak, reason, log)
        self.requested = requested
        self.peak = peak

    def __str__(self) -> str:
        requested = f"{self.requested / (1 << 20):.0f} MiB" if self.requested else "no limit of its own"
        peak = f"{self.peak / (1 << 20):.0f} MiB" if self.peak else "unknown"
        text = f"task ran out of memory on host {self.hostname} (worker {self.worker_id})"
        if self.reason:
            text += f": {self.reason}"
        text += f"\nrequested: {requested}, peak: {peak}"
        return f"{text}\nlog: {self.log}" if self.log else text


class ManagerLost(LostError):
    """A manager died or fell silent with the task on it.

    Args:
        manager_id: The manager.
        hostname: Its machine.
        reason: What was noticed.
        log: Where its last words are.
    """

    def __init__(self, manager_id: str | bytes, hostname: str, reason: str = "", log: str = "") -> None:
        self.manager_id = manager_id.decode() if isinstance(manager_id, bytes) else manager_id
        self.hostname = hostname
        self.reason = reason
        self.log = log
        super().__init__(self.manager_id, hostname, reason, log)

    def __str__(self) -> str:
        text = f"task failed because manager {self.manager_id} on host {self.hostname} was lost"
        if self.reason:
            text += f": {self.reason}"
        return f"{text} (log: {self.log})" if self.log else text


class TaskLost(LostError):
    """The task was given to a part of flowlib that is gone, and nothing more is known of it."""


class ObjectLost(LostError):
    """A large value is gone: the only machine that had it is, before anybody asked for it.

    The text names the task that made it, the machine and what happened, and why the task was not run again for it.
    """

    retryable = False


class ObjectStoreError(FlowlibError):
    """A large value cannot be stored."""


class NoRoom(ObjectStoreError):
    """Neither memory nor disk has room for a large value; the text says how much was asked for and what is full."""


class VersionMismatch(FlowlibError):
    """A manager runs another Python or speaks another protocol than the interchange.

    Args:
        interchange_version: Python and protocol of the interchange.
        manager_version: Python and protocol of the manager.
    """

    retryable = False

    def __init__(self, interchange_version: str, manager_version: str) -> None:
        super().__init__(interchange_version, manager_version)
        self.interchange_version = interchange_version
        self.manager_version = manager_version

    def __str__(self) -> str:
        return (
            f"the manager runs {self.manager_version}, the interchange {self.interchange_version}: "
            "use the same Python minor version and the same flowlib on both sides (worker_init, worker_python)"
        )


# -------------------------------------------------------------------------------------------- serialization


class SerializationError(FlowlibError):
    """An argument or function that cannot be sent to another process.

    Args:
        fname: The app, or the value, that cannot be sent.
        reason: Why.
    """

    retryable = False

    def __init__(self, fname: str, reason: str = "") -> None:
        super().__init__(fname, reason)
        self.fname = fname
        self.reason = reason

    def __str__(self) -> str:
        return f"failed to serialize {self.fname}" + (f": {self.reason}" if self.reason else "")


class DeserializationError(FlowlibError):
    """A result that cannot be rebuilt in this process.

    Args:
        reason: Why.
    """

    retryable = False

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"failed to deserialize: {self.reason}"


# --------------------------------------------------------------------------------------- blocks and providers


class TooManyJobFailuresError(FlowlibError):
    """Blocks ended without doing their work, too often to go on."""

    retryable = False


class ExecutionProviderException(FlowlibError):
    """Base of errors of providers."""


class ScaleOutFailed(ExecutionProviderException):
    """A provider could not start a block.

    Args:
        provider: The provider.
        reason: Why.
    """

    def __init__(self, provider: str, reason: str) -> None:
        super().__init__(provider, reason)
        self.provider = provider
        self.reason = reason

    def __str__(self) -> str:
        return f"provider {self.provider} could not start a block: {self.reason}"


class SubmitException(ExecutionProviderException):
    """A scheduler refused a job.

    Args:
        job_name: The job.
        message: What went wrong.
        stdout: What the submit command printed.
        stderr: What it printed as errors.
        retcode: Its exit code.
    """

    def __init__(
        self,
        job_name: str,
        message: str,
        stdout: str | None = None,
        stderr: str | None = None,
        retcode: int | None = None,
    ) -> None:
        super().__init__(job_name, message, stdout, stderr, retcode)
        self.job_name = job_name
        self.message = message
        self.stdout = stdout
        self.stderr = stderr
        self.retcode = retcode

    def __str__(self) -> str:
        text = f"cannot launch job {self.job_name}: {self.message}"
        if self.retcode is not None:
            text += f"; exit code {self.retcode}"
        if self.stdout:
            text += f"; stdout: {self.stdout.strip()}"
        if self.stderr:
            text += f"; stderr: {self.stderr.strip()}"
        return text


class HostUnusable(ExecutionProviderException):
    """A host cannot be used over SSH.

    Args:
        host: The host, as it was given.
        kind: What kind of trouble: "unreachable", "authentication", "host key", "python" ...
        what: What is wrong.
        remedy: What to do about it.
    """

    def __init__(self, host: str, kind: str, what: str, remedy: str) -> None:
        super().__init__(host, kind, what, remedy)
        self.host = host
        self.kind = kind
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.host}: {self.what}; {self.remedy}"


class SchedulerMissingArgs(ExecutionProviderException):
    """A provider lacks an argument that its site needs.

    Args:
        missing_keywords: What is missing.
        sitename: The site.
    """

    retryable = False

    def __init__(self, missing_keywords: str, sitename: str) -> None:
        super().__init__(missing_keywords, sitename)
        self.missing_keywords = missing_keywords
        self.sitename = sitename

    def __str__(self) -> str:
        return f"{self.sitename} needs {self.missing_keywords}"


class ScriptPathError(ExecutionProviderException):
    """A submit script cannot be written.

    Args:
        script_path: Where.
        reason: Why.
    """

    def __init__(self, script_path: str, reason: str) -> None:
        super().__init__(script_path, reason)
        self.script_path = script_path
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot write submit script {self.script_path}: {self.reason}"


class BadLauncher(ExecutionProviderException, TypeError):
    """Something that is no launcher was given as one.

    Args:
        launcher: What was given.
    """

    retryable = False

    def __init__(self, launcher: Any) -> None:
        self.launcher = repr(launcher)
        super().__init__(self.launcher)

    def __str__(self) -> str:
        return f"not a launcher: {self.launcher}; use one of flowlib.launchers, for example SimpleLauncher()"
