"""Where the chunks of long work are done: here, in processes of this machine or on a Dask cluster, by joblib.

No threads: a chunk is many short calls of numpy, and two threads that wait for the interpreter's lock gained a tenth
where two processes gained the half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

from mtum_eod.errors import SettingsError

T = TypeVar("T")

CONNECT_SECONDS = 10


def in_turn(call: Callable[..., T], arguments: Iterable[tuple[Any, ...]]) -> Iterator[T]:
    """One after the other, here."""
    return (call(*each) for each in arguments)


class Spread:
    """Calls a function with each of many arguments, `jobs` at a time, and gives the answers in their order."""

    def __init__(self, jobs: int, backend: str, address: str | None) -> None:
        self.jobs = jobs
        self.backend = backend
        self.address = address

    def __call__(self, call: Callable[..., T], arguments: Iterable[tuple[Any, ...]]) -> Iterator[T]:
        """Raises SettingsError where joblib or Dask is not installed, or no scheduler answers at the address."""
        try:
            import joblib
        except ImportError as error:
            raise SettingsError(
                "more than one job needs joblib, which is not installed", hint="pip install 'mtum-eod[sweep]'"
            ) from error
        with ExitStack() as stack:
            if self.backend == "dask":
                stack.enter_context(_dask(self.address))
            stack.enter_context(joblib.parallel_config(backend=self.backend))
            # Dask takes all it is given; the others start the next chunk when one is done.
            jobs = -1 if self.backend == "dask" else self.jobs
            parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
            yield from parallel(joblib.delayed(call)(*each) for each in arguments)


def _dask(address: str | None) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise SettingsError(
            "--backend dask needs Dask, which is not installed", hint="pip install 'mtum-eod[dask]'"
        ) from error
    try:
        return Client(address, timeout=CONNECT_SECONDS)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as error:
        raise SettingsError(
            f"no Dask scheduler answers at {address}: {error}",
            hint="start one with `dask scheduler`, and `dask worker ADDRESS` where mtum-eod is installed too",
        ) from error
