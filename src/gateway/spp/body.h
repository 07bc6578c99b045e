/* Reading bodies of spp-ctl's REST, and its words for what is wrong with them. Pure. */
#pragma once

#include <jansson.h>

#include "base/error.h"
#include "base/text.h"

/* What is missing: ERROR_INVALID with this as `expected`. */
#define BODY_REQUIRED "required"

/* False: error names the key. */
bool body_text(const json_t *body, const char *key, const char **ret, struct error *error);
bool body_number(const json_t *body, const char *key, json_int_t max, json_int_t *ret, struct error *error);
bool body_object(const json_t *body, const char *key, const json_t **ret, struct error *error);
/* The word of an action: one of two. */
bool body_choice(const json_t *body, const char *key, const char *first, const char *second, bool *ret_first,
                 struct error *error);

/* The text of a 400: "key(type) required.", "invalid key(port): x. Expected …", "command error: …". */
void body_put_error(struct text *to, const struct error *error);
