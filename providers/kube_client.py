"""The few calls to the API of Kubernetes that blocks need, by the official client, each with a deadline.

The client is slow to import and not always installed, so it is first touched when the first call is made.  Objects
travel as plain JSON: what is read from them is decided in ``pods``, without the client.
"""

from __future__ import annotations

import json
from typing import Any

from flowlib.errors import ConfigurationError, OptionalModuleMissing
from flowlib.providers.pods import Json


class KubeError(Exception):
    """The API server refused a call.

    Args:
        code: The HTTP status code.
        said: The message of its answer.
    """

    def __init__(self, code: int, said: str) -> None:
        super().__init__(code, said)
        self.code = code
        self.said = said

    def __str__(self) -> str:
        return f"{self.said} (HTTP status {self.code})"


class KubeUnreachable(Exception):
    """There was no answer.

    Args:
        why: In words.
        sent: Whether the call may have reached the server, which may have done what was asked.
    """

    def __init__(self, why: str, sent: bool) -> None:
        super().__init__(why, sent)
        self.why = why
        self.sent = sent

    def __str__(self) -> str:
        return self.why


class KubeClient:
    """A connection to one namespace of a cluster.

    Args:
        namespace: The namespace.
        kube_config: Path of the configuration; None for kubectl's usual one, or a pod's own account.
        context: Which of the configuration's contexts; None for the current one.
        timeout: Seconds for each call.

    Raises:
        OptionalModuleMissing: The official client is not installed.
        ConfigurationError: There is no usable configuration.
    """

    def __init__(self, namespace: str, kube_config: str | None, context: str | None, timeout: float) -> None:
        try:
            from kubernetes import client  # type: ignore[import-untyped, unused-ignore]
        except ImportError as e:
            raise OptionalModuleMissing(
                ["kubernetes"], "KubernetesProvider needs it; pip install 'flowlib[kubernetes]'"
            ) from e
        self._namespace = namespace
        self._timeout = timeout
        settings = _settings(kube_config, context)
        # What may be sent again is decided by the provider, which knows what it would mean.
        settings.retries = False
        self._connection: Any = client.ApiClient(settings)
        self._api: Any = client.CoreV1Api(self._connection)

    def create_pod(self, manifest: Json) -> Json:
        """Make a pod; returns it as the server knows it."""
        return self._json(self._api.create_namespaced_pod, self._namespace, manifest)

    def create_secret(self, manifest: Json) -> Json:
        """Make a secret."""
        return self._json(self._api.create_namespaced_secret, self._namespace, manifest)

    def change_secret(self, name: str, change: Json) -> Json:
        """Change parts of a secret."""
        return self._json(self._api.patch_namespaced_secret, name, self._namespace, change)

    def read_pod(self, name: str) -> Json:
        """A pod."""
        return self._json(self._api.read_namespaced_pod, name, self._namespace)

    def list_pods(self, selector: str) -> list[Json]:
        """All pods with these labels."""
        found = self._json(self._api.list_namespaced_pod, self._namespace, label_selector=selector)
        items: list[Json] = found.get("items") or []
        return items

    def read_log(self, name: str, lines: int, limit: int) -> bytes:
        """The end of what a pod's container wrote."""
        return self._call(self._api.read_namespaced_pod_log, name, self._namespace, tail_lines=lines, limit_bytes=limit)

    def delete_pod(self, name: str, uid: str, grace: int) -> None:
        """Delete a pod if it is still the one that is meant."""
        body: Json = {"preconditions": {"uid": uid}} if uid else {}
        self._call(self._api.delete_namespaced_pod, name, self._namespace, body=body, grace_period_seconds=grace)

    def delete_secret(self, name: str) -> None:
        """Delete a secret."""
        self._call(self._api.delete_namespaced_secret, name, self._namespace)

    def close(self) -> None:
        """Close all connections; the next call opens one again."""
        manager = self._connection.rest_client.pool_manager
        # Clearing alone closes them only once nobody refers to them any more, and errors do for long.
        for key in list(manager.pools.keys()):
            pool = manager.pools.get(key)
            if pool is not None:
                pool.close()
        manager.clear()

    def _json(self, call: Any, *args: Any, **options: Any) -> Json:
        found: Json = json.loads(self._call(call, *args, **options))
        return found

    def _call(self, call: Any, *args: Any, **options: Any) -> bytes:
        import urllib3
        from kubernetes.client.exceptions import ApiException  # type: ignore[import-untyped, unused-ignore]

        try:
            answer = call(*args, _preload_content=False, _request_timeout=self._timeout, **options)
            content: bytes = answer.data
            answer.release_conn()
        except ApiException as e:
            raise KubeError(int(e.status or 0), _said(e.body) or str(e.reason or "")) from None
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as e:
            raise KubeUnreachable(f"the API server cannot be reached: {e}", sent=False) from e
        except (urllib3.exceptions.HTTPError, OSError) as e:
            raise KubeUnreachable(f"the API server did not answer within {self._timeout:g} s: {e}", sent=True) from e
        return content


def _settings(kube_config: str | None, context: str | None) -> Any:
    from kubernetes import client, config  # type: ignore[import-untyped, unused-ignore]

    settings = client.Configuration()
    try:
        config.load_kube_config(kube_config, context, client_configuration=settings, persist_config=False)
    except config.ConfigException as e:
        if kube_config is not None or context is not None:
            raise ConfigurationError(
                f"KubernetesProvider(kube_config={kube_config!r}, context={context!r}): {e}"
            ) from e
        settings = client.Configuration()
        try:
            config.load_incluster_config(client_configuration=settings)
        except config.ConfigException:
            raise ConfigurationError(
                f"no cluster is configured: {e}; make `kubectl get pods` work, or give kube_config=, or run the script "
                "in a pod of the cluster"
            ) from e
    return settings


def _said(body: object) -> str:
    """The message of an answer: a Status object as a rule, text from a proxy otherwise."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        status = json.loads(text)
    except ValueError:
        return text[:500]
    return str(status.get("message") or text[:500]) if isinstance(status, dict) else text[:500]
