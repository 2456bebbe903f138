PYTHON ?= python3
VENV ?= .venv
EXTRAS_VENV ?= .venv-extras
BIN = $(VENV)/bin
EXTRAS = dev,openvino,ncnn,mnn,litert,executorch,neural-compressor
# where `edgec doctor --install litert-converter` puts LiteRT's converter
export EDGEC_CONVERTERS ?= $(HOME)/.cache/edgec/converters

.PHONY: demo test test-runtimes lint docs clean

demo: $(VENV)/ready
	$(BIN)/edgec compress detector.yaml

test: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile

test-runtimes: $(EXTRAS_VENV)/ready $(EDGEC_CONVERTERS)/litert/complete.json
	EDGEC_REQUIRE_RUNTIMES=1 $(EXTRAS_VENV)/bin/python -m pytest -q -m runtimes

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

docs: $(VENV)/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "read it: $(BIN)/python -m http.server --directory site"

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,docs]'
	touch $@

# the runtimes and their converters need gigabytes, and releases of packages that the first environment must not have
$(EXTRAS_VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(EXTRAS_VENV)
	$(EXTRAS_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(EXTRAS_VENV)/bin/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(EXTRAS_VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

$(EDGEC_CONVERTERS)/litert/complete.json: | $(EXTRAS_VENV)/ready
	$(EXTRAS_VENV)/bin/edgec doctor --install litert-converter > /dev/null

clean:
	rm -rf $(VENV) $(EXTRAS_VENV) build dist *.egg-info
