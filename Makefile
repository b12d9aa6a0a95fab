PYTHON ?= python3
BIN := .venv/bin
# Two test processes, each with whole files, whose fixtures are dear.
TWO := --numprocesses 2 --dist loadfile
TORCH := $(shell grep -i '^torch==' constraints.txt)

.PHONY: install data run test test-all lint docs bench verify clean
.DELETE_ON_ERROR:

install: .venv/installed

# torch first and by its pin, so that nothing else chooses a build of it.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'
	touch $@

data: install
	$(BIN)/python -m hybrid_retrieval.prepare

# The study that the README shows; on the FAQ of examples/faq where the corpus cannot be had.
run: install
	@if $(BIN)/python -m hybrid_retrieval.prepare; then \
		$(BIN)/python -m hybrid_retrieval.run -m +experiment=hybrid_vs_baselines; \
	else \
		echo "NOTICE: the documentation corpus cannot be had here (see above): going on with examples/faq, a small FAQ in five languages" >&2; \
		$(BIN)/python -m hybrid_retrieval.run -m '+experiment=[hybrid_vs_baselines,faq]'; \
	fi

test: install
	$(BIN)/python -m pytest -m 'not slow' $(TWO)

test-all: install
	$(BIN)/python -m pytest $(TWO)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site of the documentation, into site/; a warning is an error.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: install
	$(BIN)/python -m bench

# The score cards that need no hub and no GPU.
verify: install
	$(BIN)/python -m hybrid_retrieval.verify

clean:
	rm -rf .venv build dist site *.egg-info
