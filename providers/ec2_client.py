"""The few calls to EC2 that blocks need, by boto3, each with a deadline and without retries behind the caller's back.

boto3 is slow to import and not always installed, so it is first touched when the first call is made.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

from flowlib.errors import ConfigurationError, OptionalModuleMissing
from flowlib.providers.ec2 import Json


class Ec2Error(Exception):
    """EC2 refused a call.

    Args:
        code: The word for programs.
        message: For people.
        status: HTTP status code.
    """

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(code, message, status)
        self.code = code
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Ec2Unreachable(Exception):
    """There was no answer; what was asked may have been done."""


class Ec2Client:
    """A connection to EC2 in one region.

    Args:
        region: The region.
        profile: Profile of the AWS configuration; None for the usual one.
        key_file: JSON file with ``AWSAccessKeyId`` and ``AWSSecretKey``; None for boto3's usual places.
        endpoint_url: Where EC2 is, for what only speaks like it; None for the real one.
        timeout: Seconds for each call.

    Raises:
        OptionalModuleMissing: boto3 is not installed.
        ConfigurationError: The credentials cannot be read.
    """

    def __init__(
        self, region: str, profile: str | None, key_file: str | None, endpoint_url: str | None, timeout: float
    ) -> None:
        try:
            import boto3  # type: ignore[import-untyped, unused-ignore]
            import botocore.config  # type: ignore[import-untyped, unused-ignore]
            import botocore.exceptions  # type: ignore[import-untyped, unused-ignore]
            import botocore.session  # type: ignore[import-untyped, unused-ignore]
        except ImportError as e:
            raise OptionalModuleMissing(["boto3"], "AWSProvider needs it; pip install 'flowlib[aws]'") from e
        settings = botocore.config.Config(
            connect_timeout=timeout, read_timeout=timeout, retries={"total_max_attempts": 1, "mode": "standard"}
        )
        try:
            core = botocore.session.get_session()
            core.register_component("data_loader", _descriptions())
            session = boto3.Session(botocore_session=core, profile_name=profile, region_name=region, **_keys(key_file))
            self._ec2: Any = session.client("ec2", config=settings, endpoint_url=endpoint_url)
        except botocore.exceptions.BotoCoreError as e:
            raise ConfigurationError(f"AWSProvider(profile={profile!r}, region={region!r}): {e}") from e

    def call(self, operation: str, **arguments: Any) -> Json:
        """One call.

        Args:
            operation: Its name in boto3: "run_instances" ...
            **arguments: As EC2 has them.

        Raises:
            Ec2Error: It was refused.
            Ec2Unreachable: It was not answered.
            ConfigurationError: There are no credentials.
        """
        import botocore.exceptions as b

        try:
            answer: Json = getattr(self._ec2, operation)(**arguments)
        except b.ClientError as e:
            error = e.response.get("Error", {})
            status = int(e.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            raise Ec2Error(str(error.get("Code", "")), str(error.get("Message", "")), status) from None
        except (
            b.NoCredentialsError,
            b.PartialCredentialsError,
            b.CredentialRetrievalError,
            b.TokenRetrievalError,
        ) as e:
            raise ConfigurationError(
                f"AWSProvider has no credentials: {e}; make `aws sts get-caller-identity` work, or give profile="
            ) from e
        except b.ParamValidationError as e:
            raise Ec2Error("ParamValidation", str(e), 400) from None
        except (b.HTTPClientError, b.BotoCoreError) as e:
            raise Ec2Unreachable(f"EC2 did not answer: {e}") from e
        return answer

    def instances(self, filters: Sequence[Json]) -> list[Json]:
        """All instances that filters find, in as many calls as EC2 wants."""
        found: list[Json] = []
        page: Json = {}
        while True:
            answer = self.call("describe_instances", Filters=list(filters), **page)
            for reservation in answer.get("Reservations") or []:
                found += reservation.get("Instances") or []
            if not answer.get("NextToken"):
                return found
            page = {"NextToken": answer["NextToken"]}

    def close(self) -> None:
        """Close all connections."""
        self._ec2.close()


@functools.cache
def _descriptions() -> Any:
    """boto3's descriptions of services, of which EC2's takes a third of a second to read."""
    import botocore.loaders  # type: ignore[import-untyped, unused-ignore]

    return botocore.loaders.create_loader()


def _keys(key_file: str | None) -> dict[str, str]:
    if key_file is None:
        return {}
    try:
        with open(key_file, encoding="utf-8") as file:
            found = json.load(file)
        return {
            "aws_access_key_id": found["AWSAccessKeyId"],
            "aws_secret_access_key": found["AWSSecretKey"],
        }
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ConfigurationError(
            f"AWSProvider(key_file={key_file!r}): {type(e).__name__}: {e}; it must be a JSON file with AWSAccessKeyId "
            "and AWSSecretKey"
        ) from e
