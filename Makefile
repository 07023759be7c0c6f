# The thin front of cargo and `cargo xtask`; every recipe is one call, so that the real text lives in Rust.
.PHONY: demo test conformance tidy fmt crds

demo: ## Set everything up and play the walkthrough: metric → replicas → pending pods → EC2 → empty → gone
	cargo xtask demo

test: ## Format, lint, tidy, unit, property, contract and end-to-end tests
	cargo xtask test

conformance: ## Only: Karpenter's scenarios through node-provisioner on KWOK (part of `make test`)
	cargo xtask test --only conformance

tidy: ## Dependency rules, licences, file sizes, generated CRDs, ARCHITECTURE.md
	cargo xtask tidy

fmt:
	cargo fmt --all

crds: ## Write crds/ anew from the Rust types
	cargo run --quiet -p api --example crdgen -- crds
