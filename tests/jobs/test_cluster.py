"""The Ray of this machine lets in who has its token, and nobody else."""

import os
import secrets
import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("ray_here")

JOIN = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False); print(ray.get(ray.put('in')))"


def join(token):
    import ray

    address = ray.get_runtime_context().gcs_address
    environment = {**os.environ, "RAY_AUTH_TOKEN": token}
    return subprocess.run(
        [sys.executable, "-c", JOIN, address], env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_stranger_is_not_let_in():
    assert join(os.environ["RAY_AUTH_TOKEN"]).stdout.strip() == "in"
    stranger = join(secrets.token_hex(32))
    assert stranger.returncode != 0
    assert "in" not in stranger.stdout.split()
