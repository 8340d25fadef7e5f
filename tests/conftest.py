"""What every test shares: the backend, quiet logs, seeds, markers and the data folder.

KERAS_BACKEND chooses the backend; without it the first one installed of TensorFlow,
JAX and PyTorch is taken. `--run-large` runs the tests marked `large` too.
"""

import gc
import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

import pytest

if "KERAS_BACKEND" not in os.environ:
    for backend in ("tensorflow", "jax", "torch"):
        if importlib.util.find_spec(backend):
            os.environ["KERAS_BACKEND"] = backend
            break

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tests compare to 1e-5, which the shortened products of a GPU do not reach.
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
# Each test runs a program of a few numbers once: optimising it, or spreading it over
# threads, would take most of the time. Child processes inherit both.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

TESTS = Path(__file__).resolve().parent
# JAX compiles a program once for all tests, and for the next run. Processes of one run
# do not share: they would read what another has only half written. Before 0.6, JAX
# crashes on programs that it reads again.
JAX = importlib.util.find_spec("jax") and importlib.metadata.version("jax")
if JAX and tuple(map(int, JAX.split(".")[:2])) >= (0, 6):
    os.environ.setdefault(
        "JAX_COMPILATION_CACHE_DIR",
        str(
            TESTS.parent
            / ".pytest_cache"
            / "jax"
            / os.environ.get("PYTEST_XDIST_WORKER", "main")
        ),
    )
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# What newer JAX draws anyway.
os.environ.setdefault("JAX_THREEFRY_PARTITIONABLE", "1")
for folder in (TESTS, TESTS.parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import keras  # noqa: E402

# What the imports made stays: the garbage collector need not look at it again.
gc.freeze()


def pytest_addoption(parser):
    parser.addoption(
        "--run-large",
        action="store_true",
        default=False,
        help="also run the tests marked large (slow, or several processes)",
    )


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        "large(*backends): slow (on these backends); runs only with --run-large",
    )
    config.addinivalue_line("filterwarnings", "error:::drifa_keras")
    # Keras under NumPy 2, for each array it makes.
    config.addinivalue_line(
        "filterwarnings",
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Gives each file to one process: its tests share fixtures and programs."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


def pytest_report_header(config):
    return f"keras {keras.__version__}, backend {keras.backend.backend()}"


def pytest_collection_modifyitems(config, items):
    if config.getoption("--run-large"):
        return
    skip = pytest.mark.skip(reason="large: run with --run-large")
    backend = keras.backend.backend()
    for item in items:
        if any(backend in (m.args or [backend]) for m in item.iter_markers("large")):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers for each test, whatever ran before it."""
    keras.utils.set_random_seed(20250)


@pytest.fixture(autouse=True, scope="module")
def little_garbage():
    """What the tests of a module made, gone before the next one begins."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def dtype_policy():
    """The dtype policy as it was, after a test that sets another one."""
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture(scope="session")
def data_root():
    """The folder of real images: DRIFA_DATA, else shared/data beside the checkout."""
    configured = os.environ.get("DRIFA_DATA")
    root = Path(configured or TESTS.parent.parent / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no images at {root}; set DRIFA_DATA to the folder of datasets")
    return root


@pytest.fixture
def bounded_memory():
    """Fails the test whose process grows by a GiB at its highest (Linux only)."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not os.access(reset, os.W_OK):
        yield
        return

    def gib(key):
        line = next(x for x in status.read_text().splitlines() if x.startswith(key))
        return int(line.split()[1]) / 2**20

    reset.write_text("5")  # forgets the highest so far
    before = gib("VmRSS")
    yield
    grown = gib("VmHWM") - before
    assert grown < 1, f"memory grew by {grown:.2f} GiB"
