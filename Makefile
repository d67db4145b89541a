# Each target makes the virtual environment it needs; nothing is installed outside of this folder.
PYTHON ?= python3
VENV := .venv
DEMO := .venv-demo
TYPING := $(VENV)/typing/wattir

# Packages that carry real ONNX files; their tests are skipped where one cannot be had for this Python.
REAL_FILES := magika rapidocr-onnxruntime nudenet faster-whisper

.PHONY: demo test lint types pytest format clean

demo: $(DEMO)/.installed
	$(DEMO)/bin/wattir estimate resnet50 --hw h100_sxm,h200_sxm,a100_pcie --batch-size 8

test: lint types pytest

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check --quiet .

# mypy sees the three folders as they are installed: one package, through links
types: $(VENV)/.installed
	rm -rf $(TYPING) && mkdir -p $(TYPING)
	ln -s $(CURDIR)/wattir/* $(CURDIR)/frontends $(CURDIR)/backends $(TYPING)/
	MYPYPATH=$(VENV)/typing $(VENV)/bin/mypy --strict --package wattir

pytest: $(VENV)/.installed
	$(VENV)/bin/python -m pytest -n 2

format: $(VENV)/.installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# torch is named so that pip never takes a build with CUDA, and what depends on torchvision comes without its wishes
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable ".[test]" "torch==2.13.0"
	$(VENV)/bin/python -m pip install --quiet --no-deps "torchvision==0.28.0" timm
	-$(VENV)/bin/python -m pip install --quiet --no-deps $(REAL_FILES)
	touch $@

$(DEMO)/.installed: pyproject.toml $(shell find wattir frontends backends -name '*.py' -o -name '*.toml' -o -name '*.wattir')
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install --quiet --upgrade .
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
