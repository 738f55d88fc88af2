"""Who works on shards: this process, one after the other, or workers of Dask or Ray, side by side.

A worker writes what it has computed, by primary key, under the lock that the flow's process holds. So a shard that is
done twice or by half does no harm, and a lost worker costs what it had not written: its shard is given to another one.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from config.errors import RunError, UserError
from config.settings import Settings
from tasks.encoders.runtime import cpu_count, installed
from tasks.progress import progress
from tasks.spent import spending

if TYPE_CHECKING:
    from prefect.futures import PrefectFuture
    from prefect.task_runners import TaskRunner

R = TypeVar("R")
Cluster = tuple["TaskRunner[Any]", tuple[type[Exception], ...]]
"""What takes tasks, and the errors by which it tells that workers were lost."""


def check_runner(settings: Settings) -> None:
    """Raise `UserError` where the runner of the settings is not installed, or its workers could not find Prefect."""
    name = settings.runner
    if name == "thread":
        return
    if not (installed(f"prefect_{name}") and installed({"dask": "distributed", "ray": "ray"}[name])):
        raise UserError(f"runner {name} is not installed", f"pip install 'modalign[{name}]', or set runner to thread")
    from prefect.settings import PREFECT_API_URL

    if settings.address and not PREFECT_API_URL.value():
        raise UserError(
            f"the workers at {settings.address} cannot reach the Prefect server that a command starts for itself",
            "start one (prefect server start) and set PREFECT_API_URL to where they find it",
        )


class Workers:
    """Those of the settings; Dask's and Ray's start once there is something to do for two of them."""

    def __init__(self, settings: Settings, held: ExitStack) -> None:
        self._settings, self._held = settings, held

    @property
    def threads(self) -> int | None:
        """CPUs that an encoder uses: as set, else all; a worker started here has its share, one of a cluster one."""
        settings = self._settings
        if settings.threads is not None or settings.runner == "thread":
            return settings.threads
        return 1 if settings.address else max(1, cpu_count() // settings.workers)

    def run(self, calls: Sequence[tuple[bool, partial[R]]]) -> list[R]:
        """What the calls of tasks give that are due, in their order. Of the others the cache is all, looked at here.

        Raises what a task raises, and `RunError` for a shard that no worker outlived.
        """
        due = sum(wanted for wanted, _ in calls)
        if self._settings.runner == "thread" or due < (1 if self._settings.address else 2):
            done = [(wanted, call()) for wanted, call in calls]
            return [result for wanted, result in done if wanted]
        for wanted, call in calls:
            if not wanted:
                call()
        return self._gathered([call for wanted, call in calls if wanted])

    def _gathered(self, calls: Sequence[partial[R]]) -> list[R]:
        from prefect.utilities.callables import get_call_parameters

        runner, lost = self._cluster
        tasks: list[Any] = [call.func for call in calls]
        with _server_named():
            futures: list[PrefectFuture[R]] = [
                runner.submit(task, get_call_parameters(task.fn, call.args, call.keywords))
                for task, call in zip(tasks, calls, strict=True)
            ]
        done = []
        label = f"{tasks[0].name}: shards by {self._settings.runner}"
        with spending("workers"), progress(label, len(futures)) as advance:
            for number, (task, future) in enumerate(zip(tasks, futures, strict=True), 1):
                try:
                    done.append(future.result())
                except lost as error:
                    raise RunError(
                        f"shard {number} of {len(futures)} to {task.name} was lost with its workers "
                        f"({type(error).__name__})",
                        "look at their memory and logs; the next run goes on where this one stopped",
                    ) from error
                advance(1)
        return done

    @cached_property
    def _cluster(self) -> Cluster:
        try:
            if self._settings.runner == "dask":
                return _dask(self._settings, self._held)
            return _ray(self._settings, self.threads or 1, self._held)
        except OSError as error:
            if self._settings.address is None:
                raise
            raise UserError(
                f"no {self._settings.runner} answers at {self._settings.address} ({error})", "start it, or mend address"
            ) from error


@contextmanager
def workers_of(settings: Settings) -> Iterator[Workers]:
    """The workers of the settings, until the block ends; a flow inside a flow shares them."""
    if (shared := _shared.get()) is not None:
        yield shared
        return
    with ExitStack() as held:
        found = Workers(settings, held)
        token = _shared.set(found)
        try:
            yield found
        finally:
            _shared.reset(token)


_shared: ContextVar[Workers | None] = ContextVar("workers", default=None)


@contextmanager
def _server_named() -> Iterator[None]:
    """Let tasks go out with the address of this run's server, also of one that was started for this run alone."""
    from prefect.context import FlowRunContext
    from prefect.settings import PREFECT_API_URL, temporary_settings

    run = FlowRunContext.get()
    assert run is not None
    with temporary_settings({PREFECT_API_URL: str(run.client.api_url)}):
        yield


def _dask(settings: Settings, held: ExitStack) -> Cluster:
    """Dask: a cluster that is there, or worker processes here that only we can reach."""
    from distributed import CancelledError, KilledWorker
    from prefect_dask.task_runners import DaskTaskRunner

    logging.getLogger("distributed").setLevel(logging.WARNING)  # a lost worker is worth a line, a closed one is not
    here = {
        "n_workers": settings.workers,
        "threads_per_worker": 1,  # one inference at a time a worker
        "memory_limit": None,  # a shard's memory is bounded by the batch; a limit would kill it again and again
        "dashboard_address": None,
        "security": True,  # its ports take code: TLS with keys of this run
    }
    runner = DaskTaskRunner(address=settings.address) if settings.address else DaskTaskRunner(cluster_kwargs=here)
    held.enter_context(runner)
    workers = runner.client.scheduler_info(n_workers=-1)["workers"]
    if not workers:
        raise UserError(f"the cluster at {settings.address} has no workers", "dask worker ADDRESS --nthreads 1")
    broad = [address for address, about in workers.items() if about["nthreads"] > 1]
    if broad:
        raise UserError(
            f"worker {broad[0]} would encode several shards at once in one process",
            "start it with --nthreads 1, and more of them with --nworkers",
        )
    return runner, (KilledWorker, CancelledError)


def _ray(settings: Settings, threads: int, held: ExitStack) -> Cluster:
    """Ray: a cluster that is there, or worker processes here. Each shard asks for as many CPUs as its encoder uses."""
    from prefect_ray import RayTaskRunner
    from prefect_ray.context import remote_options
    from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RaySystemError, WorkerCrashedError

    here = {
        "address": "local",  # else a cluster that somebody else has started on this machine would do
        "num_cpus": settings.workers * threads,
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    runner: Any = RayTaskRunner(settings.address) if settings.address else RayTaskRunner(init_kwargs=here)
    with warnings.catch_warnings():
        # Ray's processes are forked to become another program at once
        warnings.filterwarnings("ignore", "lancedb fork support", RuntimeWarning)
        held.enter_context(runner)
    held.enter_context(remote_options(num_cpus=threads))
    return runner, (WorkerCrashedError, NodeDiedError, OutOfMemoryError, ObjectLostError, RaySystemError)
