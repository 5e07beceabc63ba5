"""Look for inputs that break a reader: `python tests/fuzz/run.py TARGET --seconds N`, after `pip install -e '.[fuzz]'`.

Coverage guides the search (atheris, that is libFuzzer). What reaches something new is kept in the work folder, where a
later run goes on; each kind of failure is kept once, in its folder `findings`, and told with its place. At the end come
the executions, and how much of the reader's modules the corpus reaches, alone and with what was found.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

MEASURED = {
    "csv": ("mtum_eod/adapters/csv_files.py", "mtum_eod/core/quality.py"),
    "settings": ("mtum_eod/settings.py",),
    "ib": tuple(f"mtum_eod/adapters/ib/{name}.py" for name in ("accounts", "broker", "data", "inspection", "line")),
}
"""The modules that a target is about."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", choices=sorted(MEASURED))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--work", type=Path, default=Path(".fuzz"), help="folder for what is found; .fuzz")
    parser.add_argument("--step", choices=("hunt", "replay"), help=argparse.SUPPRESS)  # this program, called by itself
    options = parser.parse_args()
    work = options.work / options.target
    (work / "inputs").mkdir(parents=True, exist_ok=True)
    (work / "findings").mkdir(exist_ok=True)
    match options.step:
        case "hunt":
            hunt(options.target, work, options.seconds)
        case "replay":
            replay(options.target, work)
        case _:
            again = [sys.executable, __file__, options.target, "--work", options.work, "--step"]
            told = subprocess.run(
                [*again, "hunt", "--seconds", str(options.seconds)], stderr=subprocess.PIPE, text=True
            )
            executions = re.search(r"number_of_executed_units:\s+(\d+)", told.stderr)
            sys.exit(told.stderr) if executions is None else print(f"{options.target}: {executions[1]} executions")
            subprocess.run([*again, "replay"], check=True)


def hunt(target: str, work: Path, seconds: int) -> None:
    """Fuzz until the time is over; libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["mtum_eod", "ib_insync"]):
        from fuzz.targets import TARGETS
    run, known = TARGETS[target], set[str]()

    def one(data: bytes) -> None:
        try:
            run(data)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in frames if Path(frame.filename).is_relative_to(HERE.parents[1] / "mtum_eod")]
            place = (ours or frames)[-1]
            where = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
            if where not in known:
                known.add(where)
                name = hashlib.sha256(data).hexdigest()[:16]
                (work / "findings" / name).write_bytes(data)
                print(f"finding {name}: {where}: {error}", flush=True)

    atheris.Setup(
        [
            *(sys.argv[0], f"-max_total_time={seconds}", "-max_len=4096", "-timeout=30", "-print_final_stats=1"),
            *(f"-artifact_prefix={work}/findings/", str(work / "inputs"), str(HERE / "corpus" / target)),
        ],
        one,
    )
    atheris.Fuzz()


def replay(target: str, work: Path) -> None:
    """Tell which part of the modules the corpus reaches, and which part all inputs together."""
    import coverage

    files = [str(HERE.parents[1] / name) for name in MEASURED[target]]
    reached = coverage.Coverage(branch=True, include=files, data_file=None, config_file=False)
    reached.start()
    from fuzz.targets import TARGETS

    for words, folder in (("corpus", HERE / "corpus" / target), ("with what was found", work / "inputs")):
        count = _feed(TARGETS[target], folder.iterdir())
        reached.stop()
        with Path(os.devnull).open("w") as nowhere:
            total = reached.report(file=nowhere)
        print(f"{target}: {words}: {count} inputs reach {total:.1f} % of lines and branches")
        reached.start()


def _feed(run, paths: Iterable[Path]) -> int:
    count = 0
    for path in paths:
        count += 1
        try:
            run(path.read_bytes())
        except Exception as error:
            print(f"  {path.name}: {type(error).__name__}: {error}")
    return count


if __name__ == "__main__":
    main()
