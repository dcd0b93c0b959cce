"""An S3 server: moto in a process of its own, its writes one after the other.

moto looks whether a key is free and then writes; two threads between these steps both win. A lock
around the writes makes it do what S3 promises.

GCS has a second interface, in XML, which is that of S3 but for the name of a header: the server
understands that too, since the server for GCS has only the JSON interface.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tests.servers.serving import python, serving
from tests.waiting import PATIENCE_S

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "reader",
    "AWS_SECRET_ACCESS_KEY": "of-nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_READY = "serving on "


@contextlib.contextmanager
def s3_server(*, free: float = math.inf) -> Iterator[str]:
    """Run the server; gives its URL. After `free` requests it heeds what policies allow."""
    rights = {} if math.isinf(free) else {"INITIAL_NO_AUTH_ACTION_COUNT": str(free)}
    with serving(python("tests.servers.s3"), _READY, {**CREDENTIALS, **rights}) as url:
        yield url


def make_user(url: str, name: str, policy: Mapping[str, Any]) -> dict[str, str]:
    """Create a user who may do what a policy says, in three requests; return the credentials."""
    import boto3

    keys = {"aws_access_key_id": "root", "aws_secret_access_key": "of-nothing"}
    users = boto3.client("iam", endpoint_url=url, region_name="us-east-1", **keys)
    users.create_user(UserName=name)
    users.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(policy))
    made = users.create_access_key(UserName=name)["AccessKey"]
    return {
        "AWS_ACCESS_KEY_ID": made["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"],
    }


def make_bucket(url: str, name: str) -> None:
    """Create a bucket, which may be there already."""
    request = urllib.request.Request(f"{url}/{name}", method="PUT")
    with urllib.request.urlopen(request, timeout=PATIENCE_S):
        pass


class OneWriteAtATime:
    """A WSGI application around another; a request is whole before its turn comes."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application, self._lock = application, threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self._application(environ, start_response)
        size = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(size)
        if len(body) < size:  # whoever sent it is gone
            start_response("400 Bad Request", [("Content-Length", "0")])
            return [b""]
        environ["wsgi.input"] = io.BytesIO(body)
        if environ.get("HTTP_X_GOOG_IF_GENERATION_MATCH") == "0":
            environ["HTTP_IF_NONE_MATCH"] = "*"
        with self._lock:
            return list(self._application(environ, start_response))


def main() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = OneWriteAtATime(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True)
    print(f"{_READY}http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
