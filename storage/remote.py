"""Tables on object storage: whether it answers, what it refuses, and whose the tables are."""

from __future__ import annotations

import os
import re
import socket
import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from storage import schemas
from storage.errors import StorageError
from storage.folders import whole_file

if TYPE_CHECKING:
    from storage.tables import Store

OWNER = "workspace"
"""The table whose description says to which workspace the tables belong; it has no rows."""

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")  # as Lance reads them
_PATIENCE = 5.0  # seconds that an endpoint of one's own may take to answer anything at all
_ID = "workspace.id"

# what S3 and Lance say, and what it means
_REFUSED = (
    (r"NoSuchBucket", "there is no such bucket", "make the bucket, or set MODALIGN_TABLES_URI to another"),
    (
        r"InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|ExpiredToken|InvalidClientTokenId",
        "the credentials are not accepted",
        "export the right AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN)",
    ),
    (
        r"AccessDenied|AllAccessDisabled|40[13] (?:Forbidden|Unauthorized)|status: 40[13]",
        "the credentials do not allow it",
        "let them list, read, write and delete there",
    ),
    (
        r"Failed to get AWS credentials|CredentialsNotLoaded|no providers in chain",
        "there are no credentials",
        "export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    (r"BadScheme", "its endpoint is http, not https", "export AWS_ALLOW_HTTP=true for a store of your own"),
    (r"No object store provider", "its scheme is not known", "use s3://bucket/folder"),
)


def is_remote(uri: str) -> bool:
    """Whether a URI names object storage, and not a folder.

    >>> is_remote("s3://bucket/tables"), is_remote("/data/tables")
    (True, False)
    """
    return "://" in uri


def refused_by_store(name: str, error: BaseException) -> StorageError | None:
    """What to say of `name` when object storage refuses it for good; None if `error` is another one.

    The message is our own: what the store says may repeat a part of the credentials.
    """
    text = str(error)
    for pattern, cause, mend in _REFUSED:
        if re.search(pattern, text):
            return StorageError(f"{name} cannot be reached: {cause}", mend)
    return None


def cannot_connect(uri: str, error: BaseException) -> StorageError:
    """Why the tables at `uri` cannot be opened."""
    told = str(error).partition("body:")[0]  # a body may repeat a part of the credentials
    said = " ".join(re.sub(r"https?://\S+", " ", told).split())[:160]
    return refused_by_store(uri, error) or StorageError(
        f"{uri} cannot be reached ({said})", "check AWS_ENDPOINT_URL, AWS_REGION and the network"
    )


def await_endpoint(uri: str) -> None:
    """Raise `StorageError` if an endpoint of one's own answers nothing within seconds; Lance would try for minutes."""
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
    if not uri.startswith("s3://") or endpoint is None:
        return
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    shown = f"{urlsplit(endpoint).scheme}://{urlsplit(endpoint).hostname}:{urlsplit(endpoint).port or ''}".rstrip(":")
    try:
        if urlsplit(endpoint).scheme not in ("http", "https"):
            raise ValueError("it is no http address")
        urlopen(endpoint, timeout=_PATIENCE).close()  # noqa: S310 - http or https alone
    except HTTPError:  # it is there: without a signature it has nothing to say
        return
    except (URLError, OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        raise StorageError(
            f"{uri} cannot be reached: no answer from {shown} ({why or type(error).__name__})",
            "start the store, or set AWS_ENDPOINT_URL to the one that runs",
        ) from None


def claim(store: Store, root: Path) -> None:
    """Let tables on object storage belong to the workspace `root`, or raise `StorageError` if they are another's.

    Heads, scans and the writer's lock lie in the workspace, so two workspaces over the same tables would destroy each
    other's. To be called by who holds the lock of `root`. Tables on disk lie in the workspace, or beside it.
    """
    if not is_remote(store.uri):
        return
    mine = root / _ID
    if not mine.is_file():
        with whole_file(mine) as fresh:
            fresh.write_text(uuid.uuid4().hex + "\n", encoding="ascii")
    own = mine.read_text(encoding="ascii").strip()
    about = {"modalign.workspace": own, "modalign.place": f"{socket.gethostname()}:{root}"}
    known = (store.create(OWNER, schemas.workspace(about)).schema.metadata or {}).get(b"modalign.workspace", b"")
    if known.decode() != own:
        place = store.metadata(OWNER).get("modalign.place", "unknown")
        raise StorageError(
            f"the tables at {store.uri} belong to another workspace ({place})",
            "let all machines share that folder as their workspace, or set MODALIGN_TABLES_URI to a place of its own",
        )
