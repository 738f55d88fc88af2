"""A local S3 server for the tests: moto's, on loopback, in a thread of this process; no account anywhere."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

SECRET = "a-secret-of-the-store"
_NUMBER = itertools.count()


@contextmanager
def served() -> Iterator[str]:
    """The address of a server with the bucket `bucket`."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        ask(f"http://{host}:{port}/bucket", "PUT")
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def moto_settings() -> Any:
    """With `INITIAL_NO_AUTH_ACTION_COUNT` 0 the server knows no credentials any more."""
    from moto import settings

    return settings


def ask(url: str, method: str = "GET", data: bytes | None = None) -> bytes:
    """What the server answers."""
    content: bytes = urlopen(Request(url, data=data, method=method)).read()
    return content


def environment(address: str) -> dict[str, str]:
    """What a process needs to use the server."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "a-user-of-the-store",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }


def fresh() -> str:
    """A URI under which nothing lies yet."""
    return f"s3://bucket/{next(_NUMBER)}/tables"


def keys(address: str, uri: str) -> list[str]:
    """Names of all objects under a URI."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    pages = _client(address).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return sorted(one["Key"] for page in pages for one in page.get("Contents", ()))


def remove(address: str, key: str) -> None:
    """Delete an object of the bucket behind everybody's back."""
    _client(address).delete_object(Bucket="bucket", Key=key)


def _client(address: str) -> Any:
    import boto3

    return boto3.client("s3", endpoint_url=address)
