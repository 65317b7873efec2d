# Short names for what CONTRIBUTING.md describes. `python` is that of the active environment.
.PHONY: test test-all test-jax long-tests coverage zoo zoo-install docs docs-images package ci

test: # what a change needs many times an hour
	python -m pytest

test-all: # the slow and the long ones too, on the backend that KERAS_BACKEND names
	python -m pytest -m "not zoo"

test-jax: # all on JAX, of which `.ci/run` takes every eighth
	KERAS_BACKEND=jax python -m pytest -m "not zoo and not slow"

long-tests: # finds those that a plain `pytest` leaves out; on an idle machine, on TensorFlow
	python -m pytest -m "not zoo and not slow" --durations=0 > durations.txt && python .ci/long_tests.py durations.txt && rm durations.txt

coverage: # of all of these tests, with the lines that none of them runs; needs `pip install pytest-cov`
	python -m pytest -m "not zoo" --cov --cov-report=term-missing:skip-covered

package: # the archives of a release, checked and used; into dist/
	bash .ci/package python dist

zoo-install: # keras-hub asks for packages that only downloads and other kinds of text need
	python -m pip install ".[test,zoo]"
	python -m pip install --no-deps keras-hub keras-tcn medicai

zoo: # every real architecture, on the backend that KERAS_BACKEND names; writes its table into docs/zoo.md
	python -m pytest tests/test_zoo.py -m "zoo or not zoo"
	python .ci/zoo_table.py

docs: # into site/; the notebooks are executed, which takes some minutes
	NO_MKDOCS_2_WARNING=1 mkdocs build

docs-images: # runs every example in full, an hour or two on a CPU
	python .ci/docs_images.py

ci:
	bash .ci/run
