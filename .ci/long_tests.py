"""Writes `tests/long_tests.txt`, the tests that a plain `pytest` leaves out, from how long each one took.

`python -m pytest -m "not zoo and not slow" --durations=0 > durations.txt` on an idle machine, then
`python .ci/long_tests.py durations.txt`.
"""

import pathlib
import re
import sys

LIMIT = 0.3  # seconds, on TensorFlow; one test in twelve takes longer, and all of these half of the time
LIST = pathlib.Path(__file__).resolve().parents[1] / "tests" / "long_tests.txt"


def long_tests(words):
    """Returns the names of the tests that took long, out of what pytest prints of durations; setups do not count."""
    found = re.findall(r"^ *([0-9.]+)s call +(\S.*)$", words, re.MULTILINE)
    return sorted(name.strip() for seconds, name in found if float(seconds) >= LIMIT)


def main():
    """Writes the list."""
    (source,) = sys.argv[1:]
    names = long_tests(pathlib.Path(source).read_text())
    LIST.write_text("".join(f"{name}\n" for name in names))
    print(f"{len(names)} tests take {LIMIT} s or longer.")


if __name__ == "__main__":
    main()
