# Front door for people and CI; CMake does the work. 'make help' lists the targets.

EXAMPLE ?= hello-c
FUZZ_SECONDS ?= 60
PREFIX ?= /usr/local
JOBS ?= $(shell nproc)

.DEFAULT_GOAL := build
.PHONY: build

build: ## release build: build/stator
	@test -f build/build.ninja || cmake --preset release
	@cmake --build --preset release -j $(JOBS)
