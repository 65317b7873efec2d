"""Two functions timed side by side, and numbers measured in processes of their own."""

import statistics
import subprocess
import sys
import time


def compare(name, ours, bare, calls=1, rounds=5, bare_calls=None, scale=1.0, warmups=3, seconds=120):
    """Prints the medians of two functions of an index, called in turn, and their ratio.

    Args:
        name: Words for the line.
        ours: Called with an index 0..9.
        bare: What it is compared with, called the same way.
        calls: How often `ours` is called in a round. Default 1.
        rounds: Rounds, each in the other order than the one before. Default 5.
        bare_calls: How often `bare` is called in a round. Default: `calls`.
        scale: Calls of `bare` that are worth one call of `ours`. Default 1.
        warmups: Calls of both that are not counted. Default 3: eager, traced, compiled.
        seconds: After that long, three rounds are enough. Default 120.
    """
    calls_of = {ours: calls, bare: bare_calls or calls}
    for index in range(warmups):
        ours(index), bare(index)
    times, start = {ours: [], bare: []}, time.perf_counter()
    for r in range(rounds):
        if r >= 3 and time.perf_counter() - start > seconds:
            break
        for function in (ours, bare) if r % 2 else (bare, ours):
            times[function].append(time_calls(function, calls_of[function]))
    print_row(name, times[ours], [scale * t for t in times[bare]])


def time_calls(function, calls):
    """Returns the milliseconds of one call with an index, the mean of some calls."""
    start = time.perf_counter()
    for index in range(calls):
        function(index % 10)
    return 1000 * (time.perf_counter() - start) / calls


def print_row(name, ours, bare):
    """Prints the medians of two lists of milliseconds, and the median of their ratios."""
    ratio = statistics.median(a / b for a, b in zip(ours, bare))
    ours, bare = statistics.median(ours), statistics.median(bare)
    print(f"{name:44s} {ours:9.2f} ms   bare {bare:9.2f} ms   ratio {ratio:5.2f}", flush=True)


def measure_elsewhere(*arguments):
    """Returns the number that a fresh Python, run with these arguments, prints last."""
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"`python {' '.join(map(str, arguments))}` failed:\n{done.stderr}")
    return float(done.stdout.split()[-1])
