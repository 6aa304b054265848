"""AWS's own client for pollers: blocking, one attempt, bounded in time and pages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from collector.polling.contract import Denied, PollFailed
from collector.polling.fields import Fields, Secret

PATIENCE_S = 60.0
MAX_RETRY_AFTER_S = 600.0
_REGION = re.compile(r"[a-z]{2,8}(-[a-z]+)+-\d{1,2}")
_ROLES = ("container-role", "iam-role")
# AWS answers most of these with HTTP status 400; the code alone tells.
_THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "LimitExceeded",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation"}
)
_GRANT = "give the account the IAM policy of docs/sources/aws.md"
_KEYS = "check the keys, their session token and the region"


@dataclass(frozen=True, slots=True)
class Account:
    """As whom to ask, and where.

    Attributes:
        region: Such as `eu-central-1`.
        access_key_id: With its secret; without both, AWS's own environment and files are read.
        secret_access_key: Its secret.
        session_token: Of keys that expire.
        profile: A profile of the credentials file.
        credentials_file: Read instead of `~/.aws/credentials`.
        instance_role: The role of the machine or container is asked for keys, too.
    """

    region: str
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    profile: str = ""
    credentials_file: str = ""
    instance_role: bool = False


def read_account(fields: Fields) -> Account:
    """The fields that say where and as whom.

    Raises:
        ConfigError: No region, half a pair of keys, or keys and a profile.
    """
    found = Account(
        region=fields.text("region"),
        access_key_id=fields.secret("access_key_id"),
        secret_access_key=fields.secret("secret_access_key"),
        session_token=fields.secret("session_token"),
        profile=fields.text("profile", ""),
        credentials_file=str(fields.file("credentials_file") or ""),
        instance_role=fields.flag("instance_role", default=False),
    )
    if not _REGION.fullmatch(found.region):
        raise fields.error("region", f"{found.region[:40]!r} is no region", hint="eu-central-1")
    if (found.access_key_id is None) != (found.secret_access_key is None):
        raise fields.error("access_key_id", "a key and its secret are given together")
    if found.access_key_id and (found.profile or found.credentials_file):
        raise fields.error("profile", "either keys, or a profile of a credentials file")
    return found


class AwsClient:
    """One service. It is made by the first call: AWS's description of the service is large."""

    def __init__(self, account: Account, service: str, url: str, timeout_s: float) -> None:
        self._account = account
        self._service = service
        self._url = url
        self._timeout_s = timeout_s
        self._client: Any = None

    def call(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """What one operation answers. Blocks; safe to use from one thread at a time.

        Raises:
            Denied: The policy does not allow it.
            PollFailed: It was throttled (with the time to wait), refused, or did not answer.
        """
        import botocore.exceptions as failures  # type: ignore[import-untyped]  # noqa: PLC0415  # an optional extra without types

        try:
            if self._client is None:
                self._client = _open(self._account, self._service, self._url, self._timeout_s)
            answer: dict[str, Any] = getattr(self._client, operation)(**parameters)
        except failures.ClientError as error:
            raise refusal(operation, error.response) from error
        except (failures.NoCredentialsError, failures.PartialCredentialsError) as error:
            raise PollFailed(
                f"{operation}: {error}",
                hint="write access_key_id_env and secret_access_key_env, or a profile",
            ) from error
        except (failures.BotoCoreError, failures.HTTPClientError) as error:
            raise PollFailed(
                f"{operation}: {error}", hint="check the region, the network and the keys"
            ) from error
        return answer

    def pages(
        self, operation: str, parameters: Mapping[str, Any], *, most: int
    ) -> Iterator[dict[str, Any]]:
        """The pages of an operation, at most so many; the last one tells if there are more."""
        asked = dict(parameters)
        for _ in range(most):
            page = self.call(operation, asked)
            yield page
            token = page.get("NextToken")
            if not token:
                return
            asked["NextToken"] = token

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def refusal(operation: str, answer: Mapping[str, Any]) -> PollFailed:
    """What an error answer means, by its code: the same code comes with several HTTP statuses."""
    error = answer.get("Error") or {}
    told = answer.get("ResponseMetadata") or {}
    code = str(error.get("Code", "")).rpartition("#")[2]
    message = f"{operation}: {code}: {error.get('Message', 'no reason given')}"
    if code in _THROTTLED or told.get("HTTPStatusCode") == 429:
        asked = str((told.get("HTTPHeaders") or {}).get("retry-after", ""))
        wait_s = min(float(asked), MAX_RETRY_AFTER_S) if asked.isdecimal() else PATIENCE_S
        hint = "poll less often, or fewer groups and metrics"
        return PollFailed(message, hint=hint, retry_after_s=max(1.0, wait_s))
    if code in _DENIED:
        return Denied(message, hint=_GRANT)
    return PollFailed(message, hint=_KEYS)


def _open(account: Account, service: str, url: str, timeout_s: float) -> Any:
    import boto3  # type: ignore[import-untyped]  # noqa: PLC0415  # an optional extra without types
    import botocore.session  # type: ignore[import-untyped]  # noqa: PLC0415
    from botocore.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415

    core = botocore.session.Session(profile=account.profile or None)
    if account.credentials_file:
        core.set_config_variable("credentials_file", account.credentials_file)
    if account.access_key_id is not None and account.secret_access_key is not None:
        token = None if account.session_token is None else account.session_token.value
        core.set_credentials(account.access_key_id.value, account.secret_access_key.value, token)
    elif not account.instance_role:
        # Both ask an address of the network for keys, which is only done where it was wished.
        for name in _ROLES:
            core.get_component("credential_provider").remove(name)
    bounds = Config(
        connect_timeout=timeout_s,
        read_timeout=timeout_s,
        # The poller backs off; the client's own retries would only delay the news.
        retries={"total_max_attempts": 1, "mode": "standard"},
        proxies={},
        max_pool_connections=1,
        user_agent_extra="warroom",
    )
    return boto3.session.Session(botocore_session=core).client(
        service, region_name=account.region, endpoint_url=url or None, config=bounds
    )
