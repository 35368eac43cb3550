# 留痕 Liuhen. `make` lists the targets. Options are given as NAME=value after the target:
#   PYTHON=python3.12      which Python builds the environment (3.11 or newer)
#   WHEELS=/path/to/wheels take every package from a folder (`make bundle` fills one); no network
PYTHON  ?= python3
WHEELS  ?=
FOOTAGE ?=
KEEP    ?=
DATA    ?= ./data
AGENCY  ?=
CONFIG  ?=
BUNDLE  ?= dist/wheels
ARCH    ?=
SEED    ?=
N       ?=
PYTEST_ARGS ?=

BIN := .venv/bin
# Only what was given is passed on, so that a program's own default holds otherwise.
given = $(if $($(1)),$(1)='$($(1))')
# Some shells have a NAME of their own, which is no agency's.
named = $(if $(filter command,$(firstword $(origin NAME))),$(NAME))
export WHEELS

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo run test lint check bundle dock-wheel lock clean
.SUFFIXES:

help: ## 列出命令 · list the targets
	@echo '留痕 Liuhen'
	@awk -F ':.*## ' '/^[a-z%-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: ## 安装运行环境、模型权重、示例影像 · set up what a run needs
	@$(PYTHON) tools/setup.py

setup-dev: ## 另装测试与检查工具 · set up what tests and checks need as well
	@$(PYTHON) tools/setup.py --dev

demo: setup ## 演示全流程;FOOTAGE=目录 用自己的影像,KEEP=0 完成即退出 · the whole way, on a throw-away data folder
	@$(BIN)/liuhen demo $(if $(FOOTAGE),--footage '$(FOOTAGE)') $(if $(filter 0,$(KEEP)),--no-keep)

run: setup ## 正式运行,首次给出 AGENCY=代码 NAME=名称;DATA=目录,CONFIG=设置文件 · start for real
	@$(BIN)/liuhen up --data '$(DATA)' $(if $(CONFIG),--config '$(CONFIG)') $(if $(AGENCY),--agency-code '$(AGENCY)') $(if $(named),--agency-name '$(named)')

test: setup-dev ## 全部测试(SQLite、PostgreSQL、Redis、浏览器)· every test
	@$(PYTHON) tools/browser.py
	@$(BIN)/python tools/web.py
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: setup-dev ## 格式、静态检查、类型、分层 · what review sees, without running anything
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	MYPYPATH=tools $(BIN)/mypy --explicit-package-bases tools
	MYPYPATH=dock $(BIN)/mypy -p liuhen_dock
	MYPYPATH=dock $(BIN)/mypy -p liuhen_dock --platform win32 --cache-dir .mypy_cache/win32
	$(BIN)/lint-imports

check: lint ## 以上,并跑单元测试 · the same, and the unit tests
	$(BIN)/python -m pytest tests/unit $(PYTEST_ARGS)

bench-%: setup-dev ## 性能测量,如 bench-review · measure one thing beside its peer
	@$(BIN)/python -m benchmarks.$(subst -,_,$*)

torture-%: setup-dev ## 破坏性试验,如 torture-spine SEED=1 N=50 · break it on purpose
	@$(call given,SEED) $(call given,N) $(BIN)/python -m benchmarks.torture_$(subst -,_,$*)

bundle: setup-dev ## 收集离线安装包到 dist/wheels(BUNDLE=,ARCH=aarch64)· everything for a machine without a network
	@$(BIN)/python tools/bundle.py '$(BUNDLE)' $(if $(ARCH),--arch $(ARCH))

dock-wheel: setup-dev ## 采集站程序 liuhen-dock 的安装包,在 dist/ · the dock agent's wheel
	@cd dock && ../$(BIN)/python -c 'import hatchling.build, os; os.makedirs("../dist", exist_ok=True); print("dist/" + hatchling.build.build_wheel("../dist"))'

lock: ## 重写锁定文件;UPGRADE=1 升级 · write requirements/*.txt again
	@$(PYTHON) tools/lock.py $(if $(UPGRADE),--upgrade)

clean: ## 删除环境与缓存,不动 data · remove .venv and caches, never data
	rm -rf .venv .cache dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -not -path './data/*' -exec rm -rf {} +
