"""What MLflow's server needs once: the bucket of its artifacts, and the user that workers are.

It may be run again at any time. The user's password is set to what the environment says, which is how it is rotated.
"""

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

TIMEOUT = 120  # seconds that the object store may take to answer for the first time


def prepare() -> None:
    """Make the bucket and the user that the environment names."""
    make_bucket(os.environ["MLFLOW_S3_ENDPOINT_URL"], urlsplit(os.environ["MLFLOW_ARTIFACTS_DESTINATION"]).netloc)
    admin = (os.environ["MLFLOW_AUTH_ADMIN_USERNAME"], os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"])
    worker = (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"])
    make_user(os.environ["MLFLOW_TRACKING_URI"], admin, worker)


def make_bucket(endpoint: str, bucket: str) -> None:
    """Make the bucket if there is none; its keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""
    import boto3
    from botocore.exceptions import ClientError, EndpointConnectionError

    s3 = boto3.client("s3", endpoint_url=endpoint)
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            s3.create_bucket(Bucket=bucket)
        except EndpointConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise
            return
        else:
            print(f"made the bucket {bucket}")  # noqa: T201  a program: this is what it tells
            return


def make_user(server: str, admin: tuple[str, str], user: tuple[str, str]) -> None:
    """Make a user of MLflow's basic auth who is no administrator, or give the one of this name this password."""
    credentials = {"username": user[0], "password": user[1]}
    status = call(server, "POST", "users/create", credentials, admin)
    if status == 400:  # RESOURCE_ALREADY_EXISTS
        status = call(server, "PATCH", "users/update-password", credentials, admin)
    if status != 200:
        sys.exit(f"prepare: {server} answered {status}: is MLFLOW_AUTH_ADMIN_PASSWORD the administrator's password?")
    print(f"MLflow knows the user {user[0]}")  # noqa: T201


def call(server: str, method: str, path: str, body: dict[str, str], who: tuple[str, str]) -> int:
    """Ask MLflow's REST API as a user; gives the status."""
    request = urllib.request.Request(  # noqa: S310  an http address of the person's own
        f"{server}/api/2.0/mlflow/{path}", json.dumps(body).encode(), method=method
    )
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", "Basic " + base64.b64encode(":".join(who).encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


if __name__ == "__main__":
    prepare()
