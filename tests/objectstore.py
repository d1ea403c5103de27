"""A real S3 server on loopback, and secrets that are easy to look for."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAQUORBLEZORPTEST1",
    "AWS_SECRET_ACCESS_KEY": "quorble-secret-key-3f9a1",
    "HF_TOKEN": "hf_quorbletoken77c2",
    "RAY_AUTH_TOKEN": "quorble-ray-token-5d20e",
}


@contextmanager
def serving(environment) -> Iterator[str]:
    """The URI of an empty bucket's folder, without its options; `environment` is a MonkeyPatch."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # Ray reads its token once a process: one that an earlier test's Ray had stays, and is the secret to look for.
    SECRETS["RAY_AUTH_TOKEN"] = os.environ.get("RAY_AUTH_TOKEN", SECRETS["RAY_AUTH_TOKEN"])
    for name, value in SECRETS.items():
        environment.setenv(name, value)
    environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
        client.create_bucket(Bucket="moe-bucket")
        yield f"s3://moe-bucket/runs/NAME?scheme=http&region=us-east-1&endpoint_override={host}:{port}"
    finally:
        server.stop()
