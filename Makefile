# The two commands of the README: `make up` shows the product, `make test` proves it.

CACHE := $(or $(AIRFLOW_ENTRYPOINT_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/airflow-entrypoint)
export PATH := $(CACHE)/tools/bin:$(PATH)

BINARY := target/release/airflow-entrypoint
SCRIPTS := .ci/run docker/up docker/down docker/local/build $(wildcard tests/install-*)

.PHONY: build check down setup test up

build: ## the static executable, at $(BINARY)
	cargo build --release --locked
	@mkdir -p $(dir $(BINARY))
	@cp target/$$(rustc -vV | sed -n 's/^host: //p')/release/airflow-entrypoint $(BINARY)

up: ## builds and starts Airflow with PostgreSQL in containers, and says where it is
	docker/up

down: ## stops it; `docker/down --volumes` removes its data and its keys too
	docker/down

setup: ## what the tests need, where it may be installed
	tests/install-tools
	tests/install-referees

check: ## format, lints, licences
	cargo fmt --check
	cargo clippy --all-targets --locked -- --deny warnings
	cargo deny --locked --log-level error check --hide-inclusion-graph --allow duplicate bans licenses sources
	shellcheck $(SCRIPTS)

test: setup check build ## everything
	cargo nextest run --locked --no-fail-fast
