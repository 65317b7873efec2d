# Short names for what CONTRIBUTING.md describes. `python` is that of the active environment.
.PHONY: test zoo zoo-install docs docs-images ci

test:
	python -m pytest

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
