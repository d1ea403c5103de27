"""A run whose directory is on S3 equals one on a disk, and no secret of its environment is left anywhere."""

import threading
from pathlib import Path

import pytest
from pyarrow import fs

from moe_safety.checkpoints import verify
from moe_safety.cli import main
from moe_safety.config import ModelConfig, load_config
from moe_safety.identify import read_selection
from moe_safety.models.io import model_folder
from moe_safety.rundir import RunDir
from moe_safety.train.train import train
from tests.objectstore import SECRETS, serving

FLAGS = [
    "data.max_samples=40",
    "data.only_successful=false",
    "batches.benign_per_batch=0",
    "batches.control_per_batch=0",
    "capture.tokens=all",
    "capture.max_tokens_per_forward=600",
    "identify.method=routing",
    "identify.bootstrap_rounds=20",
    "train.launch=process",
    "train.num_epochs=1",
    "train.num_rounds=2",
    "train.reidentify=true",
]
STAGES = ("prepare", "compose", "capture", "identify")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    import ray

    from moe_safety.jobs.cluster import connect
    from moe_safety.models.demo import demo_folder

    demo = demo_folder().parent
    with pytest.MonkeyPatch.context() as environment, serving(environment) as uri:
        cache = tmp_path_factory.mktemp("cache")
        (cache / "demo").symlink_to(demo)
        environment.setenv("MOE_SAFETY_CACHE", str(cache))
        ray.shutdown()  # An earlier test may have started one.
        connect()  # Workers take the environment over.
        yield uri
        ray.shutdown()


class ProcessLists:
    """The command lines of all processes, looked at over and over."""

    def __enter__(self):
        self.seen, self.left = set(), threading.Event()
        self.thread = threading.Thread(target=self._look)
        self.thread.start()
        return self.seen

    def __exit__(self, *_):
        self.left.set()
        self.thread.join()

    def _look(self):
        while not self.left.wait(0.2):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(file.read_bytes())
                except OSError:  # It has ended.
                    continue


def run_stages(run_dir, *stages):
    flags = [word for flag in (f"run_dir={run_dir}", *FLAGS) for word in ("--set", flag)]
    for stage in stages:
        assert main([stage, "configs/demo.yaml", *flags]) == 0


@pytest.mark.soak
def test_a_run_on_s3_equals_one_on_a_disk(bucket, tmp_path, capfd):
    import ray

    with ProcessLists() as command_lines:
        for place in (bucket, f"file://{tmp_path}/run"):
            run_stages(place, *STAGES)
        run_stages(bucket, "train")
    stored, local = RunDir(bucket), RunDir(f"file://{tmp_path}/run")
    for name in ("prompts.parquet", "batches.parquet", "risk_diff.parquet", "expert_mask.npy"):
        assert stored.digest(name) == local.digest(name), name
    assert stored.files("routing") == local.files("routing")
    assert all(stored.digest(name) == local.digest(name) for name in local.files("routing"))
    config = load_config("configs/demo.yaml", [f"run_dir={bucket}", *FLAGS])
    assert train(config)["skipped"]
    assert stored.files("locks") == []
    # Two rounds: the second one identified on the first one's model, which its actors fetched from the store.
    tuned = ModelConfig(name=stored.uri_of("train/selective-routing/final_model"))
    rounds = [read_selection(stored, f"train/selective-routing/round_{n}/selection.json") for n in (1, 2)]
    allowed = {expert for selection in rounds for expert in selection.union()}
    report = verify(model_folder(config.model), model_folder(tuned), allowed, False)
    assert report.changed
    assert not report.violations

    logs = Path(ray._private.worker._global_node.get_session_dir_path())
    places = {
        "the run directory": [stored.read_bytes(name) for name in everything(stored)],
        "output": [text.encode() for text in capfd.readouterr()],
        "process lists": sorted(command_lines),
        "Ray's logs": [file.read_bytes() for file in logs.rglob("*") if file.is_file()],
    }
    for place, texts in places.items():
        assert any(texts), place
        for name, secret in SECRETS.items():
            assert not any(secret.encode() in text for text in texts), f"{name} is in {place}"


def everything(run):
    found = run.filesystem.get_file_info(fs.FileSelector(run.root, recursive=True))
    return [info.path[len(run.root) + 1 :] for info in found if info.type == fs.FileType.File]
