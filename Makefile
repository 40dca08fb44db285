# `make` alone lists what can be made.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help deps claim programs image check test up down demo bench chaos fuzz

CLUSTER := tests/cluster
PACKAGES := ca-certificates curl debootstrap gcc iproute2 iptables libc6-dev make openssh-client openssh-server openssl \
  procps python3-venv systemd-container util-linux
CONFIG ?=
CACHE := $(or $(ORCA_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/orca)

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

deps: ## install the Debian packages that the local world needs (as root)
	@missing=$$(for p in $(PACKAGES); do dpkg -s $$p > /dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  echo "==> installing" $$missing; \
	  apt-get update -q > /dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing > /dev/null; \
	fi

# All clones share one build directory, and cargo tells their artifacts apart by time alone: when another clone built
# last, what is here must look newer than what it left.
BUILD_DIR := $(or $(CARGO_BUILD_BUILD_DIR),$(or $(CARGO_HOME),$(HOME)/.cargo)/orca-build)
CLAIM := $(BUILD_DIR)/clone
claim:
	@mkdir -p "$(BUILD_DIR)"; \
	if [ "$$(cat "$(CLAIM)" 2> /dev/null)" != "$(CURDIR)" ] || find "$(BUILD_DIR)"/debug/.fingerprint -maxdepth 2 \
	    -path '*/.fingerprint/[ol]*' -newer "$(CLAIM)" 2> /dev/null | grep -qE '/(orca|localstack)-'; then \
	  find src localstack tests -name '*.rs' -exec touch {} +; echo "$(CURDIR)" > "$(CLAIM)"; \
	fi

programs: deps claim
	@echo "==> building orca and the local cloud: some minutes the first time, most of them for the AWS SDK"
	@cargo build --workspace && touch "$(CLAIM)"
	@$(CLUSTER)/build.sh crane etcd cni kubernetes

image: programs
	@$(CLUSTER)/image.sh

check: claim ## format, lints, documentation and unit tests: the fast part
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --test bench --test chaos -- -D warnings
	cargo doc --workspace --no-deps --document-private-items
	cargo test --workspace --lib --bins --quiet
	@touch "$(CLAIM)"

# Unit tests ran with the check; what is left are the tests in folders of their own.
test: deps check programs image ## everything, on real machines too
	@$(CLUSTER)/build.sh ssm-plugin agnhost metrics-server promtool
	@$(CLUSTER)/python.sh
	ORCA_SSM_PLUGIN=$$(realpath $(CACHE)/bin/ssm-plugin/session-manager-plugin) \
	  ORCA_PROMTOOL=$$(realpath $(CACHE)/bin/promtool/promtool) \
	  cargo test --workspace --test ssm --test plugin --test it --test e2e
	cargo test --workspace --test machines -- --ignored
	cargo test --workspace --quiet --test chaos -- seed=1 machines=5 kills=30 time=60
	@touch "$(CLAIM)"

up: image ## start the local world and leave it running (CONFIG=file: another configuration of ORCA)
	@$(CLUSTER)/world.sh up $(CONFIG)
	@echo "export KUBECONFIG=$(CURDIR)/target/local/kubeconfig"
	@echo "local cloud: http://127.0.0.1:4566 (access key and secret: test)"
	@echo "RunPod: http://127.0.0.1:4567 (API key: rpa_test)"
	@echo "image registry: 127.0.0.1:5000"

down: ## end the local world
	@$(CLUSTER)/world.sh down

demo: image ## a pod's whole life on a machine of its own
	@$(CLUSTER)/demo.sh

# OPTIMISED: the SDK stays as it is, ORCA alone is compiled as for a release, which takes minutes.
# Other people's programs are built for the parts alone that are measured beside them.
part = $(if $(PARTS),$(filter $(1),$(PARTS)),$(1))
bench: image ## measure, as ratios within one run (PARTS="plan dry": only these; ROUNDS=10: of a take-over; OPTIMISED=1: ORCA without debug's slowness)
	@$(if $(call part,steady),$(CLUSTER)/build.sh virtual-kubelet)
	@$(if $(call part,plugin),$(CLUSTER)/build.sh ssm-plugin)
	@$(if $(call part,logs plugin restart),$(CLUSTER)/python.sh)
	@$(if $(ROUNDS),ORCA_ROUNDS=$(ROUNDS)) $(if $(OPTIMISED),ORCA_OPTIMISED=1) cargo test --workspace --quiet \
	  $(if $(OPTIMISED),--config 'profile.dev.package.orca.opt-level=2') --test bench -- $(PARTS)

chaos: image ## kill ORCA again and again beside other trouble, and judge what is left (SEED=7, MACHINES=30 or states, KILLS=100, TIME=600: at most)
	@cargo test --workspace --quiet --test chaos -- seed=$(SEED) machines=$(MACHINES) kills=$(KILLS) time=$(TIME)

# ORCA and the targets alone are compiled for it, with counters of what is reached; the AWS SDK stays as it is.
fuzz: claim ## try the fuzz targets for ten seconds each (TARGETS="log_query config": only these; TIME=600: for longer; KEEP=1: keep new inputs)
	@tests/fuzz/run.sh $(or $(TIME),10) "$(KEEP)" $(TARGETS)
	@touch "$(CLAIM)"
