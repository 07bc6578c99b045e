/* The cases of the contract, for every implementation of the state store. */
#pragma once

#include "rig.h"

/* Runs them all on one kind. The number of failures, as cmocka has it. */
int contract_run(const struct store_kind *kind);
/* Leases: cases that wait for time to pass. */
int contract_run_time(const struct store_kind *kind);
/* Random transactions, ranges, watches and compactions against a model; seeds from `first` on. */
int model_run(const struct store_kind *kind, uint64_t first_seed, unsigned seeds, unsigned steps);
