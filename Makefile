# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Thin over ansible-playbook: each lab target is a playbook of the collection. NAME=name works on a lab of that name, LAB=qemu on one
# of virtual machines (LAB=netns: network namespaces), and ARGS are further arguments: make demo LAB=qemu NAME=second ARGS=-v

MAKEFLAGS += --no-print-directory
LAB ?= netns
# Not from the environment, where NAME may be something else.
NAME =
ARGS ?=
PLAY = scripts/play
OPTIONS = -e ekho_lab_backend=$(LAB) $(if $(NAME),-e ekho_lab_name=$(NAME)) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup demo lab preflight mirror kernel unkernel verify lab-down picture dev unit lint fmt test test-all bench clean

help: ## Show this list
	@echo 'make TARGET [LAB=netns|qemu] [NAME=lab] [ARGS="..."]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## Make this checkout ready: packages, .venv (the other targets do this by themselves)
	@scripts/setup $(if $(filter netns qemu,$(LAB)),$(LAB:netns=run),$(error LAB=$(LAB): a lab is of netns or qemu))

demo: setup ## The whole story in one go: four hops become two, and four again; leaves a picture in ynl-mirror-demo
	@$(PLAY) demo $(OPTIONS)

lab: setup ## Bring the lab up (or repair it): two end hosts, the DPU with two VRFs, the host
	@$(PLAY) lab_up $(OPTIONS)

preflight: setup ## Check the lab before the mirror goes onto it; changes nothing (real machines: docs/hardware.md)
	@$(PLAY) preflight $(OPTIONS)

mirror: setup ## Deploy and start agent and listener in the lab
	@$(PLAY) mirror $(OPTIONS)

kernel: setup ## Deploy the kernel routes on ekho-host, for the mirror to offload
	@$(PLAY) kernel_routes $(OPTIONS)

unkernel: setup ## Withdraw the kernel routes
	@$(PLAY) kernel_routes -e kernel_routes_state=absent $(OPTIONS)

verify: setup ## Traceroute between the end hosts, both ways and both families (HOPS=2: check the number of hops)
	@$(PLAY) verify $(if $(HOPS),-e expected_hops=$(HOPS)) $(OPTIONS)

lab-down: setup ## Take the lab down with everything that runs in it
	@$(PLAY) lab_down $(OPTIONS)

picture: setup ## Draw docs/lab.svg again from what the demo measures (figures in docs/report.json)
	@$(PLAY) demo -e verify_report_dir=docs $(OPTIONS)

dev: ## Make this checkout ready for development: .venv with the tests' packages; no root needed
	@scripts/setup dev

unit: dev ## The unit tests: under half a minute, no root needed
	@tests/run unit $(ARGS)

lint: dev ## All linters: style, types, spelling, licences, documentation, Ansible
	@tests/run lint $(ARGS)

fmt: dev ## Format the Python files, and mend what ruff can mend
	@.venv/bin/ruff check --fix --exit-zero --quiet .
	@.venv/bin/ruff format .

test: ## Every test but those that are slow by nature: under ten minutes, with all the set-up
	@scripts/setup test
	@tests/run quick $(ARGS)

test-all: ## Every test: what `make test` runs comes first, then virtual machines, other Pythons, Molecule, ...
	@scripts/setup all
	@tests/run all $(ARGS)

bench: ## Measure against other mirrors: a million routes, takes some minutes
	@scripts/setup test
	@.venv/bin/python bench/run.py $(ARGS)

clean: ## Remove what the targets made in this checkout (not a running lab: make lab-down)
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/output ynl-mirror-demo
