/* Is a request within the contract? Pure. */
#pragma once

#include "control/store/store.h"

/* May this be a key? */
bool store_is_key(const void *key, size_t length);
/* False: error says what is wrong. */
bool store_check_range(const char *key, bool prefix, struct error *error);
bool store_check_request(const struct store_request *request, struct error *error);
