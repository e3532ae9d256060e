# make demo   set up, train a small CLIP with PGS masking on the shipped pairs, write runs/demo/report.html;
#             evaluate it with every suite, write runs/demo/eval/report.html; look at its embeddings
#             (runs/demo/geometry) and adapt it to few images (runs/demo/adapted); train another that knows 27 nouns,
#             align its patches with texts (PACL), segment scenes with it: runs/aligned/eval/report.html
# make test   set up with the development tools, run the whole suite
# make lint   ruff and mypy
# make clean  remove what was set up and built; runs/ stays
#
# Everything is installed into .venv. Another Python:      make demo PYTHON=/path/to/python3.12
# Options for pip (another index, a cache, a smaller torch): make demo PIP_FLAGS='...'

PYTHON ?=
PIP_FLAGS ?=
TEST_FLAGS ?=

# All of them; segmentation on a few images only, and so corruptions, in 75 forms each.
DEMO_SUITES := classification,retrieval,linear-probe,segmentation:images=36,robustness:images=32;corrupt=zs_clipart,compositionality

# The head that was trained, beside a reading of patches without training; the ground has no label.
ALIGNED_SUITES := segmentation:background=ignore,segmentation:method=naclip;background=ignore

# New scenes of the nouns that it knows.
ALIGNED_SETS := things:36

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check $(PIP_FLAGS)
WORKERS := $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ "$$n" -le 8 ] && echo "$$n" || echo 8)

.DELETE_ON_ERROR:
.PHONY: demo test lint clean

demo: $(VENV)/.installed
	$(BIN)/python -m patchclip train --resume --config configs/demo.yaml
	$(BIN)/python -m patchclip doctor runs/demo
	$(BIN)/python -m patchclip eval --model runs/demo --suite '$(DEMO_SUITES)' --data-root samples --output runs/demo/eval
	$(BIN)/python -m patchclip geometry runs/demo retrieval_mixed --output runs/demo/geometry
	$(BIN)/python -m patchclip adapt runs/demo zs_clipart --method gda --shots 4 --output runs/demo/adapted
	$(BIN)/python -m patchclip train --resume --config configs/things.yaml
	$(BIN)/python -m patchclip align --resume --config configs/pacl_demo.yaml
	$(BIN)/python -m patchclip eval --model runs/aligned --suite '$(ALIGNED_SUITES)' --data-root samples --datasets '$(ALIGNED_SETS)' --output runs/aligned/eval
	@echo 'masks and training:     runs/demo/report.html'
	@echo 'every suite:            runs/demo/eval/report.html'
	@echo 'how embeddings lie:     runs/demo/geometry/report.html'
	@echo 'few images a class:     runs/demo/adapted/report.html'
	@echo 'the small CLIP:         runs/things/report.html'
	@echo 'patches and texts:      runs/aligned/report.html'
	@echo 'segmentation by words:  runs/aligned/eval/report.html'

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) $(TEST_FLAGS)

lint: $(VENV)/.installed-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are written last: a set-up that was interrupted is done again.
$(VENV)/.installed-dev: pyproject.toml $(VENV)/.installed
	$(PIP) -e '.[dev]'
	touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.created
	$(PIP) -e .
	touch $@

# A .venv that is there and works is kept.
$(VENV)/.created:
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; then exit 0; fi; \
	found=; \
	for candidate in $(if $(PYTHON),'$(PYTHON)',python3.12 python3.11 python3.10 python3.13 python3 python); do \
	    if "$$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	    then found=$$candidate; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "patchclip needs Python 3.10 to 3.13, $(if $(PYTHON),and $(PYTHON) is not one,and none was found)." >&2; \
	    echo "Install one (Debian, Ubuntu: sudo apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12" >&2; \
	    exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	    version=$$("$$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	    echo "$$found cannot make a virtual environment. Debian, Ubuntu: sudo apt install python$$version-venv" >&2; \
	    exit 1; \
	fi; \
	echo "setting up $(VENV) with $$found"; \
	"$$found" -m venv --clear $(VENV)
	@touch $@
