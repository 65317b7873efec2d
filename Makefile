# Short names for what CONTRIBUTING.md describes. `python` is that of the active environment.
.PHONY: test docs docs-images ci

test:
	python -m pytest

docs: # into site/; the notebooks are executed, which takes some minutes
	NO_MKDOCS_2_WARNING=1 mkdocs build

docs-images: # runs every example in full, an hour or two on a CPU
	python .ci/docs_images.py

ci:
	bash .ci/run
