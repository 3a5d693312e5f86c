# The two commands of the README: `make up` shows the product, `make test` proves it.

CACHE := $(or $(AIRFLOW_ENTRYPOINT_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/airflow-entrypoint)
export PATH := $(CACHE)/tools/bin:$(PATH)

BINARY := target/release/airflow-entrypoint
SCRIPTS := .ci/run docker/up docker/down docker/local/build tests/compiled tests/run $(wildcard tests/install-*)

.PHONY: build check check-text clippy down quick setup test up

build: ## the static executable, at $(BINARY)
	cargo build --release --locked
	@mkdir -p $(dir $(BINARY))
	@built=target/$$(rustc -vV | sed -n 's/^host: //p')/release/airflow-entrypoint; \
	cmp -s $$built $(BINARY) || { cp $$built $(BINARY).new && mv $(BINARY).new $(BINARY); } # who runs or reads the old one may go on

up: ## builds and starts Airflow with PostgreSQL in containers, and says where it is
	docker/up

down: ## stops it; `docker/down --volumes` removes its data and its keys too
	docker/down

setup: ## lists what the tests need and this machine lacks, and installs it where it may
	tests/install-tools --list
	tests/install-referees --list
	tests/install-tools
	tests/install-referees

check: check-text clippy ## format, lints, licences

clippy:
	cargo clippy --all-targets --locked -- --deny warnings

check-text:
	cargo fmt --check
	cargo deny --locked --log-level error check --hide-inclusion-graph --allow duplicate bans licenses sources
	shellcheck $(SCRIPTS)

quick: ## format, clippy, and the tests that need no Airflow, no server and no container; installs nothing
	tests/run quick

test: ## everything, with all the set-up that it needs
	tests/run all
